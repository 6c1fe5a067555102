/* Plain chains of members that move between kernels: task to parent, task to namespace to host name.
 *
 * Everything exists on every kernel, only at other offsets, so each record resolves everywhere.
 * Compiled for both byte orders: the big-endian twin is for the s390x kernel.
 *
 * Targets: bpfel bpfeb
 */
#include "core.h"

struct new_utsname {
	char nodename[65];
} core;

struct uts_namespace {
	struct new_utsname name;
} core;

struct nsproxy {
	struct uts_namespace *uts_ns;
} core;

typedef struct {
	u32 val;
} kuid_t;

struct cred {
	kuid_t uid;
} core;

struct task_struct {
	pid_t pid;
	pid_t tgid;
	struct task_struct *real_parent;
	u64 start_boottime;
	const struct cred *cred;
	char comm[16];
	struct nsproxy *nsproxy;
} core;

struct event {
	pid_t pid;
	pid_t tgid;
	pid_t parent_tgid;
	u32 uid;
	u64 started_ns;
	char comm[16];
	char parent_comm[16];
	char host[65];
};

struct {
	MAP_PARAM(type, MAP_RINGBUF);
	MAP_PARAM(max_entries, 65536);
} events SEC(".maps");

SEC("tp/sched/sched_process_exec")
int exec(void *ctx)
{
	struct task_struct *task = current_task();
	struct task_struct *parent = READ(task, real_parent);
	struct uts_namespace *uts = READ(READ(task, nsproxy), uts_ns);
	struct event event = {};

	event.pid = READ(task, pid);
	event.tgid = READ(task, tgid);
	event.parent_tgid = READ(parent, tgid);
	event.uid = READ(READ(task, cred), uid.val);
	event.started_ns = READ(task, start_boottime);
	READ_STR(event.comm, task, comm);
	READ_STR(event.parent_comm, parent, comm);
	READ_STR(event.host, uts, name.nodename);
	ringbuf_output(&events, &event, sizeof(event), 0);
	return 0;
}

LICENSE;
