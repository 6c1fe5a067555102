/* Direct loads of integers whose width differs between kernels: the instruction's size is rewritten too.
 *
 * neighbour.flags u8 to u32, cgroup.subtree_control u16 to u32, dl_rq.dl_nr_running unsigned long to
 * unsigned int, irq_desc.tot_count unsigned int to unsigned long, net_device.operstate declared wide here
 * and narrow on older kernels. That works for unsigned integers only: task_struct.on_cpu is signed here,
 * and where it shrank to one byte its load is poisoned, as is that of net_device.priv_flags where that
 * became a bitfield.
 *
 * Targets: bpfel bpfeb
 */
#include "core.h"

struct neighbour {
	u8 flags;
} core;

struct cgroup {
	u16 subtree_control;
} core;

struct dl_rq {
	unsigned long dl_nr_running;
} core;

struct rq {
	unsigned int nr_running;
	struct dl_rq dl;
} core;

struct irq_desc {
	unsigned int tot_count;
} core;

struct task_struct {
	int on_cpu;
	unsigned long jobctl;
} core;

struct net_device {
	unsigned int priv_flags;
	unsigned int operstate;
	int ifindex;
} core;

struct sk_buff {
	struct net_device *dev;
	u16 protocol;
} core;

u64 sum = 0;

SEC("fentry/neigh_update")
int neighbour_flags(u64 *ctx)
{
	struct neighbour *neighbour = (void *)ctx[0];

	sum += neighbour->flags;
	return 0;
}

SEC("tp_btf/cgroup_mkdir")
int cgroup_controllers(u64 *ctx)
{
	struct cgroup *cgroup = (void *)ctx[0];

	sum += cgroup->subtree_control;
	return 0;
}

SEC("fentry/pick_next_task_fair")
int deadline_tasks(u64 *ctx)
{
	struct rq *rq = (void *)ctx[0];

	sum += rq->dl.dl_nr_running + rq->nr_running;
	return 0;
}

SEC("fentry/handle_irq_event")
int interrupts(u64 *ctx)
{
	struct irq_desc *desc = (void *)ctx[0];

	sum += desc->tot_count;
	return 0;
}

SEC("tp_btf/sched_switch")
int running(u64 *ctx)
{
	struct task_struct *prev = (void *)ctx[1];

	sum += prev->on_cpu + prev->jobctl;
	return 0;
}

SEC("tp_btf/net_dev_queue")
int device(u64 *ctx)
{
	struct sk_buff *skb = (void *)ctx[0];
	struct net_device *dev = skb->dev;

	sum += dev->ifindex + skb->protocol;
	sum += dev->operstate;
	return 0;
}

SEC("tp_btf/netif_receive_skb")
int device_flags(u64 *ctx)
{
	struct sk_buff *skb = (void *)ctx[0];

	sum += skb->dev->priv_flags;
	return 0;
}

LICENSE;
