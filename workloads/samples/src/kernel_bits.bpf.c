/* Bitfields of real kernel structs: position, width of the load, sign and both shifts are relocated.
 *
 * Some move within their struct, some only within their byte, some change into plain members on newer
 * kernels (fib6_info.offload, hrtimer_cpu_base.hres_active), and some vanish (inet_sock.transparent).
 * In big endian bits are counted from the other end, so the twin's shifts differ in every record.
 *
 * Targets: bpfel bpfeb
 */
#include "core.h"

struct sk_buff {
	unsigned int len;
	u8 cloned : 1;
	u8 pkt_type : 3;
	u8 ip_summed : 2;
	u8 csum_level : 2;
	u8 nf_trace : 1;
} core;

struct task_struct {
	pid_t pid;
	unsigned int sched_reset_on_fork : 1;
	unsigned int sched_contributes_to_load : 1;
	unsigned int in_iowait : 1;
} core;

struct inet_sock___old {
	u8 transparent : 1;
} core;

struct inet_connection_sock {
	u8 icsk_ca_state : 5;
	u8 icsk_ca_setsockopt : 1;
} core;

struct tcp_sock {
	u8 nonagle : 4;
	u8 repair : 1;
	u8 syn_data : 1;
} core;

struct fib6_info {
	u8 offload : 1;
	u8 trap : 1;
} core;

struct hrtimer_cpu_base {
	unsigned int cpu;
	unsigned int hres_active : 1;
} core;

struct hrtimer_clock_base {
	struct hrtimer_cpu_base *cpu_base;
} core;

struct hrtimer {
	struct hrtimer_clock_base *base;
} core;

struct {
	MAP_PARAM(type, MAP_ARRAY);
	MAP_PARAM(max_entries, 32);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, u64);
} counts SEC(".maps");

static inline_always void add(u32 slot, u64 n)
{
	u64 *count = map_lookup(&counts, &slot);

	if (count)
		__sync_fetch_and_add(count, n);
}

SEC("fentry/tcp_v4_rcv")
int packet(u64 *ctx)
{
	struct sk_buff *skb = (void *)ctx[0];

	add(LOAD_BITS(skb, pkt_type), skb->len);
	add(8 + LOAD_BITS(skb, ip_summed), 1);
	add(12, LOAD_BITS(skb, csum_level));
	add(13, LOAD_BITS(skb, nf_trace));
	add(14, LOAD_BITS(skb, cloned));
	return 0;
}

SEC("fentry/tcp_set_state")
int state_change(u64 *ctx)
{
	struct inet_connection_sock *icsk = (void *)ctx[0];
	struct tcp_sock *tp = (void *)ctx[0];
	struct inet_sock___old *inet = (void *)ctx[0];

	add(16, READ_BITS(icsk, icsk_ca_state));
	add(17, READ_BITS(icsk, icsk_ca_setsockopt));
	add(18, READ_BITS(tp, nonagle));
	add(19, READ_BITS(tp, repair));
	add(20, READ_BITS(tp, syn_data));
	if (field_exists(inet->transparent))
		add(21, READ_BITS(inet, transparent));
	return 0;
}

SEC("tp_btf/sched_process_fork")
int fork(u64 *ctx)
{
	struct task_struct *parent = (void *)ctx[0];

	add(24, LOAD_BITS(parent, sched_reset_on_fork));
	add(25, LOAD_BITS(parent, sched_contributes_to_load));
	add(26, LOAD_BITS(parent, in_iowait));
	return parent->pid == 0;
}

SEC("fentry/fib6_add")
int route(u64 *ctx)
{
	struct fib6_info *route = (void *)ctx[1];

	add(27, LOAD_BITS(route, offload));
	add(28, LOAD_BITS(route, trap));
	return 0;
}

/* On purpose without LOAD_BITS: the offset becomes part of the load, which is poisoned where the local
 * bitfield is a plain member of the kernel, although the load itself would be right there.
 */
SEC("fentry/fib6_del")
int route_deleted(u64 *ctx)
{
	struct fib6_info *route = (void *)ctx[0];
	const void *at = (const void *)route + field_offset(route->offload);

	add(29, *(const volatile u8 *)at != 0);
	return 0;
}

SEC("tp_btf/hrtimer_start")
int timer(u64 *ctx)
{
	struct hrtimer *timer = (void *)ctx[0];
	struct hrtimer_cpu_base *base = READ(READ(timer, base), cpu_base);

	add(30, READ_BITS(base, hres_active));
	add(31, READ(base, cpu));
	return 0;
}

LICENSE;
