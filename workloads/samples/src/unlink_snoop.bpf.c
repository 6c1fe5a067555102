/* Optional programs and registers of two architectures.
 *
 * `?` in a section name means: not loaded unless user space asks for it. do_unlinkat is gone in newer
 * kernels, so its program must stay off there; its relocations then do not count. The position of the
 * dentry among the arguments of vfs_unlink is told from types: a mount's id map, first a namespace, then
 * a type of its own, was put in front in 5.12. Arguments are in different members of pt_regs per architecture.
 *
 * Targets: bpfel bpfeb
 */
#include "core.h"

struct pt_regs___x86 {
	unsigned long di, si, dx, cx;
} core;

struct pt_regs___s390 {
	unsigned long gprs[16];
} core;

struct mnt_idmap {
	int count;
} core;

struct qstr {
	u32 len;
	const unsigned char *name;
} core;

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
} core;

struct filename {
	const char *name;
} core;

struct event {
	u32 tgid;
	u32 len;
	char name[64];
	char parent[64];
};

struct {
	MAP_PARAM(type, MAP_RINGBUF);
	MAP_PARAM(max_entries, 65536);
} events SEC(".maps");

static inline_always unsigned long argument(void *regs, int n)
{
	struct pt_regs___x86 *x86 = regs;
	struct pt_regs___s390 *s390 = regs;

	if (field_exists(x86->di))
		return n == 1 ? READ(x86, si) : READ(x86, dx);
	return n == 1 ? READ(s390, gprs[3]) : READ(s390, gprs[4]);
}

SEC("kprobe/vfs_unlink")
int unlink(void *regs)
{
	struct dentry *dentry = (void *)argument(regs, type_exists(struct mnt_idmap) ? 2 : 1);
	struct event event = {};

	event.tgid = current_pid_tgid() >> 32;
	event.len = READ(dentry, d_name.len);
	probe_read_str(event.name, sizeof(event.name), READ(dentry, d_name.name));
	probe_read_str(event.parent, sizeof(event.parent), READ(READ(dentry, d_parent), d_name.name));
	ringbuf_output(&events, &event, sizeof(event), 0);
	return 0;
}

SEC("?kprobe/do_unlinkat")
int unlink_by_name(void *regs)
{
	struct filename *filename = (void *)argument(regs, 1);
	struct event event = {};

	event.tgid = current_pid_tgid() >> 32;
	probe_read_str(event.name, sizeof(event.name), READ(filename, name));
	ringbuf_output(&events, &event, sizeof(event), 0);
	return 0;
}

/* Two programs in one section: their records share its name and differ in their instruction offsets. */
SEC("?kretprobe/vfs_unlink")
int unlinked(void *regs)
{
	struct event event = { .tgid = current_pid_tgid() >> 32 };

	ringbuf_output(&events, &event, sizeof(event), 0);
	return 0;
}

SEC("?kretprobe/vfs_unlink")
int unlinked_result(void *regs)
{
	struct event event = { .tgid = current_pid_tgid() >> 32 };

	event.len = field_exists(MEMBER(struct pt_regs___s390, gprs)) ?
			    READ((struct pt_regs___s390 *)regs, gprs[2]) : 0;
	ringbuf_output(&events, &event, sizeof(event), 0);
	return 0;
}

LICENSE;
