/* A struct_ops object: a congestion control algorithm, with kernel functions as externs.
 *
 * The loader matches `struct tcp_congestion_ops` to the kernel's by member names, which is not a CO-RE
 * relocation; the records are in the programs. tcp_reno_cong_avoid and tcp_slow_start are kernel
 * functions: calls to them are resolved by name in the kernel's BTF, the weak one only if it is there.
 *
 * Targets: bpfel
 */
#include "core.h"

struct sock_common {
	unsigned char skc_state;
} core;

struct sock {
	struct sock_common __sk_common;
} core;

struct inet_connection_sock {
	u8 icsk_ca_state : 5;
	u64 icsk_ca_priv[13];
} core;

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	u32 snd_ssthresh;
	u32 snd_cwnd;
	u32 snd_cwnd_cnt;
	u32 srtt_us;
} core;

/* Not preserved: this is the initial value of a map, laid out as the program's own type says. */
struct tcp_congestion_ops {
	u32 (*ssthresh)(struct sock *sk);
	void (*cong_avoid)(struct sock *sk, u32 ack, u32 acked);
	u32 (*undo_cwnd)(struct sock *sk);
	void (*init)(struct sock *sk);
	char name[16];
};

extern u32 tcp_slow_start(struct tcp_sock *tp, u32 acked) ksym;
extern void tcp_reno_cong_avoid(struct sock *sk, u32 ack, u32 acked) ksym;
extern u32 bpf_sample_gain(struct tcp_sock *tp) ksym weak;

SEC("struct_ops/sample_init")
void sample_init(u64 *ctx)
{
	struct tcp_sock *tp = (void *)ctx[0];

	tp->snd_cwnd_cnt = 0;
}

SEC("struct_ops/sample_ssthresh")
u32 sample_ssthresh(u64 *ctx)
{
	struct tcp_sock *tp = (void *)ctx[0];
	u32 half = tp->snd_cwnd >> 1;

	return half > 2 ? half : 2;
}

SEC("struct_ops/sample_undo_cwnd")
u32 sample_undo_cwnd(u64 *ctx)
{
	struct tcp_sock *tp = (void *)ctx[0];

	return tp->snd_cwnd > tp->snd_ssthresh ? tp->snd_cwnd : tp->snd_ssthresh;
}

SEC("struct_ops/sample_cong_avoid")
void sample_cong_avoid(u64 *ctx)
{
	struct tcp_sock *tp = (void *)ctx[0];
	u32 acked = ctx[2];

	if (bpf_sample_gain && tp->srtt_us > 8000)
		acked += bpf_sample_gain(tp);
	if (LOAD_BITS(&tp->inet_conn, icsk_ca_state) != 0)
		return;
	if (tp->snd_cwnd < tp->snd_ssthresh) {
		acked = tcp_slow_start(tp, acked);
		if (!acked)
			return;
	}
	tcp_reno_cong_avoid((void *)tp, ctx[1], acked);
}

SEC(".struct_ops")
struct tcp_congestion_ops sample = {
	.ssthresh = (void *)sample_ssthresh,
	.cong_avoid = (void *)sample_cong_avoid,
	.undo_cwnd = (void *)sample_undo_cwnd,
	.init = (void *)sample_init,
	.name = "bpf_sample",
};

LICENSE;
