/* Array elements, flexible arrays and pointers used as arrays.
 *
 * cgroup.ancestor_ids[] held numbers; on newer kernels ancestors[] holds pointers. pid.numbers was
 * declared with one element and became flexible, so element 2 is out of bounds on older kernels. The CPU
 * mask is a plain array whose length depends on the kernel's configuration.
 *
 * Targets: bpfel
 */
#include "core.h"

struct kernfs_node {
	u64 id;
	const char *name;
} core;

struct cgroup_subsys_state {
	int id;
} core;

struct cgroup {
	struct cgroup_subsys_state self;
	int level;
	struct kernfs_node *kn;
	struct cgroup *ancestors[];
} core;

struct cgroup___old {
	u64 ancestor_ids[];
} core;

struct upid {
	int nr;
} core;

struct pid {
	unsigned int level;
	struct upid numbers[];
} core;

struct signal_struct {
	struct pid *pids[4];
} core;

struct cpumask {
	unsigned long bits[4];
} core;

struct task_struct {
	struct pid *thread_pid;
	struct signal_struct *signal;
	struct cpumask cpus_mask;
	char comm[16];
} core;

struct netdev_queue {
	unsigned long state;
} core;

struct net_device {
	unsigned int num_tx_queues;
	struct netdev_queue *_tx;
} core;

struct sk_buff {
	struct net_device *dev;
} core;

struct event {
	u64 cgroup_id;
	u64 parent_id;
	u64 mask;
	char name[64];
	int pid;
	int session;
	int nested_pid;
	char initial;
};

struct {
	MAP_PARAM(type, MAP_RINGBUF);
	MAP_PARAM(max_entries, 65536);
} events SEC(".maps");

static inline_always u64 ancestor_id(struct cgroup *cgroup)
{
	if (field_exists(cgroup->ancestors))
		return READ(READ(READ(cgroup, ancestors[1]), kn), id);
	return READ((struct cgroup___old *)cgroup, ancestor_ids[1]);
}

SEC("tp_btf/cgroup_attach_task")
int attach(u64 *ctx)
{
	struct cgroup *cgroup = (void *)ctx[0];
	struct task_struct *task = (void *)ctx[2];
	struct pid *pid = READ(task, thread_pid);
	struct pid *session = READ(READ(task, signal), pids[3]);
	struct event event = {};

	event.cgroup_id = READ(READ(cgroup, kn), id);
	if (READ(cgroup, level) > 1)
		event.parent_id = ancestor_id(cgroup);
	probe_read_str(event.name, sizeof(event.name), READ(READ(cgroup, kn), name));
	event.pid = READ(pid, numbers[0].nr);
	event.session = READ(session, numbers[0].nr);
	if (READ(pid, level) >= 2 && field_exists(pid->numbers[2].nr))
		event.nested_pid = READ(pid, numbers[2].nr);
	event.mask = READ(task, cpus_mask.bits[3]);
	event.initial = READ(task, comm[0]);
	ringbuf_output(&events, &event, sizeof(event), 0);
	return 0;
}

u64 stopped = 0;
u64 queue_size = 0;

/* A pointer used as an array: the record's first index is not 0, and counts in the kernel's size. */
SEC("tp_btf/net_dev_queue")
int third_queue(u64 *ctx)
{
	struct sk_buff *skb = (void *)ctx[0];
	struct netdev_queue *queues = skb->dev->_tx;

	if (skb->dev->num_tx_queues > 2)
		stopped += READ(&queues[2], state) & 1;
	queue_size = field_size(queues[1]);
	stopped += field_size(MEMBER(struct task_struct, cpus_mask.bits)) +
		   field_size(MEMBER(struct task_struct, cpus_mask.bits[0]));
	return 0;
}

LICENSE;
