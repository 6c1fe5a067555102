/* Enumerators: whether the kernel knows them and what they are worth there, in 32 and 64 bits.
 *
 * Values that move (skb_drop_reason), features found by their enumerator (bpf_func_id, bpf_link_type,
 * cgroup_subsys_id), 64-bit enums of which older BTF keeps the low 32 bits of each value (hmm_pfn_flags,
 * perf_callchain_context), an enum that few kernels have (scx_enq_flags), and a signed 64-bit enum that
 * no kernel has.
 *
 * Targets: bpfel
 */
#include "core.h"

enum bpf_func_id {
	BPF_FUNC_ringbuf_output = 130,
	BPF_FUNC_get_func_ip = 173,
	BPF_FUNC_loop = 181,
	BPF_FUNC_user_ringbuf_drain = 209,
};

enum bpf_link_type {
	BPF_LINK_TYPE_XDP = 6,
	BPF_LINK_TYPE_KPROBE_MULTI = 8,
};

/* The local numbers are deliberately not the kernel's. */
enum cgroup_subsys_id___sample {
	memory_cgrp_id = 1000,
	pids_cgrp_id = 1001,
	misc_cgrp_id = 1002,
};

enum skb_drop_reason {
	SKB_DROP_REASON_NO_SOCKET = 3,
	SKB_DROP_REASON_TCP_CSUM = 9,
};

enum hmm_pfn_flags {
	HMM_PFN_VALID = 1ULL << 63,
	HMM_PFN_WRITE = 1ULL << 62,
	HMM_PFN_DMA_MAPPED = 1ULL << 60,
};

enum perf_callchain_context {
	PERF_CONTEXT_HV = (u64)-32,
	PERF_CONTEXT_USER = (u64)-512,
	PERF_CONTEXT_USER_DEFERRED = (u64)-640,
};

enum scx_enq_flags {
	SCX_ENQ_WAKEUP = 1,
	SCX_ENQ_PREEMPT = 1ULL << 32,
};

enum signed_sample {
	SIGNED_SAMPLE_LOW = -(1LL << 40),
	SIGNED_SAMPLE_MINUS_TWO = -2,
};

u64 features = 0;
u64 values[16] = {};

SEC("raw_tp/sys_enter")
int feature_bits(void *ctx)
{
	u64 bits = 0;

	bits |= (u64)enum_value_exists(enum bpf_func_id, BPF_FUNC_ringbuf_output) << 0;
	bits |= (u64)enum_value_exists(enum bpf_func_id, BPF_FUNC_get_func_ip) << 1;
	bits |= (u64)enum_value_exists(enum bpf_func_id, BPF_FUNC_loop) << 2;
	bits |= (u64)enum_value_exists(enum bpf_func_id, BPF_FUNC_user_ringbuf_drain) << 3;
	bits |= (u64)enum_value_exists(enum bpf_link_type, BPF_LINK_TYPE_XDP) << 4;
	bits |= (u64)enum_value_exists(enum bpf_link_type, BPF_LINK_TYPE_KPROBE_MULTI) << 5;
	bits |= (u64)enum_value_exists(enum scx_enq_flags, SCX_ENQ_PREEMPT) << 6;
	bits |= (u64)enum_value_exists(enum signed_sample, SIGNED_SAMPLE_LOW) << 7;
	features = bits;
	return 0;
}

SEC("raw_tp/kfree_skb")
int drop_reason(u64 *ctx)
{
	if (!enum_value_exists(enum skb_drop_reason, SKB_DROP_REASON_TCP_CSUM))
		return 0;
	if (ctx[2] == enum_value(enum skb_drop_reason, SKB_DROP_REASON_TCP_CSUM))
		values[0] += 1;
	else if (ctx[2] == enum_value(enum skb_drop_reason, SKB_DROP_REASON_NO_SOCKET))
		values[1] += 1;
	return 0;
}

SEC("raw_tp/cgroup_attach_task")
int subsystems(void *ctx)
{
	values[2] = enum_value(enum cgroup_subsys_id___sample, memory_cgrp_id);
	values[3] = enum_value(enum cgroup_subsys_id___sample, pids_cgrp_id);
	if (enum_value_exists(enum cgroup_subsys_id___sample, misc_cgrp_id))
		values[4] = enum_value(enum cgroup_subsys_id___sample, misc_cgrp_id);
	return 0;
}

SEC("raw_tp/page_fault_user")
int wide_values(void *ctx)
{
	values[5] = enum_value(enum hmm_pfn_flags, HMM_PFN_VALID);
	values[6] = enum_value(enum hmm_pfn_flags, HMM_PFN_WRITE);
	if (enum_value_exists(enum hmm_pfn_flags, HMM_PFN_DMA_MAPPED))
		values[7] = enum_value(enum hmm_pfn_flags, HMM_PFN_DMA_MAPPED);
	values[8] = enum_value(enum perf_callchain_context, PERF_CONTEXT_HV);
	values[9] = enum_value(enum perf_callchain_context, PERF_CONTEXT_USER);
	if (enum_value_exists(enum perf_callchain_context, PERF_CONTEXT_USER_DEFERRED))
		values[10] = enum_value(enum perf_callchain_context, PERF_CONTEXT_USER_DEFERRED);
	return 0;
}

SEC("raw_tp/sched_switch")
int rare_values(void *ctx)
{
	if (enum_value_exists(enum scx_enq_flags, SCX_ENQ_WAKEUP)) {
		values[11] = enum_value(enum scx_enq_flags, SCX_ENQ_WAKEUP);
		values[12] = enum_value(enum scx_enq_flags, SCX_ENQ_PREEMPT);
	}
	if (enum_value_exists(enum signed_sample, SIGNED_SAMPLE_LOW)) {
		values[13] = enum_value(enum signed_sample, SIGNED_SAMPLE_LOW);
		values[14] = enum_value(enum signed_sample, SIGNED_SAMPLE_MINUS_TWO);
	}
	return 0;
}

LICENSE;
