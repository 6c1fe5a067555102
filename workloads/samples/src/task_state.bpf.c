/* A renamed member read through flavours: task_struct.state became __state, and narrower, in 5.14.
 *
 * `task_struct___old` stands for the same kernel type as `task_struct`: what follows the three
 * underscores is dropped when the target is searched. On any kernel one of the two reads does not
 * resolve; the guard in front of it makes that instruction unreachable, so the program loads.
 *
 * Targets: bpfel bpfeb
 */
#include "core.h"

struct task_struct {
	pid_t pid;
	int exit_code;
	char comm[16];
	unsigned int __state;
} core;

struct task_struct___old {
	long state;
} core;

struct event {
	u64 time_ns;
	pid_t pid;
	pid_t next_pid;
	long state;
	char comm[16];
};

struct {
	MAP_PARAM(type, MAP_RINGBUF);
	MAP_PARAM(max_entries, 262144);
} events SEC(".maps");

static inline_always long state_of(struct task_struct *task)
{
	if (field_exists(task->__state))
		return READ(task, __state);
	return READ((struct task_struct___old *)task, state);
}

SEC("tp_btf/sched_switch")
int sched_switch(u64 *ctx)
{
	struct task_struct *prev = (void *)ctx[1];
	struct task_struct *next = (void *)ctx[2];
	struct event event = {};

	event.time_ns = ktime_ns();
	event.pid = prev->pid;
	event.next_pid = next->pid;
	event.state = state_of(prev);
	READ_STR(event.comm, prev, comm);
	ringbuf_output(&events, &event, sizeof(event), 0);
	return 0;
}

/* The same guard, but the direct load of a pointer that the verifier trusts. */
SEC("tp_btf/sched_wakeup")
int sched_wakeup(u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	long state;

	if (field_exists(task->__state))
		state = task->__state;
	else
		state = ((struct task_struct___old *)task)->state;
	if (state & 0x10 /* exited */)
		return 0;

	struct event event = { .time_ns = ktime_ns(), .pid = task->pid, .state = state };
	ringbuf_output(&events, &event, sizeof(event), 0);
	return 0;
}

LICENSE;
