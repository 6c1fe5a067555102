/* On purpose wrong: members that newer kernels do not have are read without asking first.
 *
 * Where such a member is missing the instruction is poisoned, and the verifier refuses the program as
 * soon as it reaches it. The programs break at different kernels, so one object shows every mixture:
 * `access_time` since inode.i_atime was renamed (6.7), `oom_group` since task_struct.memcg_in_oom is gone
 * (by 6.12), `reference_count` since file.f_count became f_ref (6.13), `page_flags` since page.flags is a
 * struct, which an integer does not match (by 6.18), `never_there` always, and `dead_branch` never: its
 * missing member stands in a branch that no kernel takes.
 *
 * Targets: bpfel bpfeb
 */
#include "core.h"

typedef struct {
	s64 counter;
} atomic64_t;

typedef atomic64_t atomic_long_t;

struct timespec64 {
	s64 tv_sec;
} core;

struct inode {
	struct timespec64 i_atime;
} core;

struct file {
	atomic_long_t f_count;
	struct inode *f_inode;
} core;

struct page {
	unsigned long flags;
} core;

struct mem_cgroup;

struct task_struct {
	struct mem_cgroup *memcg_in_oom;
	pid_t tgid;
	u64 no_kernel_has_this;
} core;

u64 last = 0;

SEC("fentry/vfs_read")
int reference_count(u64 *ctx)
{
	struct file *file = (void *)ctx[0];

	last = file->f_count.counter;
	return 0;
}

SEC("fentry/vfs_write")
int access_time(u64 *ctx)
{
	struct file *file = (void *)ctx[0];

	last = READ(READ(file, f_inode), i_atime.tv_sec);
	return 0;
}

SEC("raw_tp/mm_page_free")
int page_flags(u64 *ctx)
{
	last = READ((struct page *)ctx[0], flags);
	return 0;
}

SEC("kprobe/oom_kill_process")
int oom_group(void *ctx)
{
	struct task_struct *task = current_task();

	last = (u64)READ(task, memcg_in_oom);
	return 0;
}

SEC("raw_tp/sys_enter")
int never_there(void *ctx)
{
	struct task_struct *task = current_task();

	last = READ(task, no_kernel_has_this) + READ(task, tgid);
	return 0;
}

SEC("raw_tp/sys_exit")
int dead_branch(void *ctx)
{
	struct task_struct *task = current_task();

	if (field_exists(task->no_kernel_has_this))
		last = READ(task, no_kernel_has_this);
	else
		last = READ(task, tgid);
	return 0;
}

LICENSE;
