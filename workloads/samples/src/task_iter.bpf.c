/* An iterator, and symbols that come from outside: kernel variables, kernel functions, configuration.
 *
 * `runqueues` is a per-CPU variable that kernel BTF describes only on newer kernels; `jiffies_64` is known by
 * address alone. CONFIG_HZ and LINUX_KERNEL_VERSION are filled in by the loader from the kernel's
 * configuration, and code that they rule out is dead before the verifier sees its relocations.
 *
 * Targets: bpfel
 */
#include "core.h"

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
	u64 seq_num;
} core;

struct mm_struct {
	unsigned long total_vm;
} core;

struct task_struct {
	pid_t pid;
	pid_t tgid;
	u64 start_time;
	struct mm_struct *mm;
} core;

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
} core;

struct rq {
	unsigned int nr_running;
	u64 clock;
} core;

extern const struct rq runqueues ksym weak;
extern const void jiffies_64 ksym weak;
extern struct task_struct *bpf_task_acquire(struct task_struct *task) ksym weak;
extern void bpf_task_release(struct task_struct *task) ksym weak;
extern unsigned int LINUX_KERNEL_VERSION kconfig;
extern unsigned int CONFIG_HZ kconfig weak;

struct row {
	u64 index;
	u64 age_ticks;
	u64 pages;
	pid_t pid;
	pid_t tgid;
};

SEC("iter/task")
int dump_task(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct row row = {};

	if (!task)
		return 0;
	row.index = ctx->meta->seq_num;
	row.pid = task->pid;
	row.tgid = task->tgid;
	if (CONFIG_HZ)
		row.age_ticks = task->start_time / (1000000000 / CONFIG_HZ);
	if (task->mm)
		row.pages = READ(READ(task, mm), total_vm);
	seq_write(ctx->meta->seq, &row, sizeof(row));
	return 0;
}

u64 running = 0;
u64 ticks = 0;

SEC("tp_btf/sched_wakeup")
int wakeup(u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	const struct rq *rq;

	if (LINUX_KERNEL_VERSION < 0x050e00)
		return 0;
	if (&runqueues) {
		rq = per_cpu_ptr(&runqueues, smp_processor_id());
		if (rq)
			running = rq->nr_running;
	}
	if (bpf_task_acquire && bpf_task_release) {
		task = bpf_task_acquire(task);
		if (task) {
			running += task->pid == 0;
			bpf_task_release(task);
		}
	}
	if (&jiffies_64)
		probe_read(&ticks, sizeof(ticks), &jiffies_64);
	return 0;
}

LICENSE;
