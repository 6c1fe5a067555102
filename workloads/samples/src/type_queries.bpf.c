/* Types as such: whether the kernel has them, how big they are there, their ids, and whether they match.
 *
 * The prototypes of tracepoints are types too: `btf_trace_<name>` is a typedef of a pointer to a
 * function, and type_matches tells which arguments this kernel passes. A type that is missing is an
 * answer here, never an error: size and id are then 0.
 *
 * Targets: bpfel bpfeb
 */
#include "core.h"

struct task_struct {
	pid_t pid;
	struct task_struct *real_parent;
} core;

/* The type exists, the member does not, so it never matches. */
struct task_struct___strange {
	pid_t pid;
	struct task_struct *no_kernel_has_this;
} core;

/* Never matches either: clang describes char as signed, the kernel's BTF as unsigned. */
struct task_struct___named {
	char comm[16];
} core;

struct sk_buff;
struct request;
enum skb_drop_reason { SKB_DROP_REASON_NO_SOCKET = 3 };
struct sock {
	int sk_rcvbuf;
} core;

struct mm_rss_stat {
	s64 count[4];
} core;

struct folio {
	unsigned long private;
} core;

union bpf_attr {
	u32 map_type;
	u64 batch;
} core;

/* A struct in every kernel, so a union of that name is a different type. */
union list_head___union {
	void *next;
} core;

typedef u32 blk_opf_t;
typedef u64 blkcnt_t;
typedef struct {
	s64 refcnt;
} file_ref_t;

typedef void (*btf_trace_sched_switch___plain)(void *, bool, struct task_struct *, struct task_struct *);
typedef void (*btf_trace_sched_switch___state)(void *, bool, struct task_struct *, struct task_struct *,
					       unsigned int);
typedef void (*btf_trace_kfree_skb___plain)(void *, struct sk_buff *, void *);
typedef void (*btf_trace_kfree_skb___reason)(void *, struct sk_buff *, void *, enum skb_drop_reason);
typedef void (*btf_trace_kfree_skb___socket)(void *, struct sk_buff *, void *, enum skb_drop_reason,
					     struct sock *);

u64 answers = 0;
u64 sizes[8] = {};
u64 ids[8] = {};

SEC("raw_tp/sys_enter")
int existence(void *ctx)
{
	u64 bits = 0;

	bits |= (u64)type_exists(struct task_struct) << 0;
	bits |= (u64)type_exists(struct task_struct___strange) << 1;
	bits |= (u64)type_exists(struct mm_rss_stat) << 2;
	bits |= (u64)type_exists(struct folio) << 3;
	bits |= (u64)type_exists(union bpf_attr) << 4;
	bits |= (u64)type_exists(union list_head___union) << 5;
	bits |= (u64)type_exists(blk_opf_t) << 6;
	bits |= (u64)type_exists(file_ref_t) << 7;
	bits |= (u64)type_exists(enum skb_drop_reason) << 8;
	answers = bits;
	return 0;
}

SEC("raw_tp/sys_exit")
int matching(void *ctx)
{
	u64 bits = 0;

	bits |= (u64)type_matches(struct task_struct) << 16;
	bits |= (u64)type_matches(struct task_struct___strange) << 17;
	bits |= (u64)type_matches(struct task_struct___named) << 18;
	bits |= (u64)type_matches(blk_opf_t) << 19;
	bits |= (u64)type_matches(btf_trace_sched_switch___plain) << 20;
	bits |= (u64)type_matches(btf_trace_sched_switch___state) << 21;
	bits |= (u64)type_matches(btf_trace_kfree_skb___plain) << 22;
	bits |= (u64)type_matches(btf_trace_kfree_skb___reason) << 23;
	bits |= (u64)type_matches(btf_trace_kfree_skb___socket) << 24;
	answers |= bits;
	return 0;
}

SEC("raw_tp/sched_switch")
int size(void *ctx)
{
	sizes[0] = type_size(struct task_struct);
	sizes[1] = type_size(struct sock);
	sizes[2] = type_size(struct mm_rss_stat);
	sizes[3] = type_size(struct folio);
	sizes[4] = type_size(union bpf_attr);
	sizes[5] = type_size(file_ref_t);
	sizes[6] = type_size(blkcnt_t);
	sizes[7] = type_size(enum skb_drop_reason);
	return 0;
}

SEC("raw_tp/sched_wakeup")
int id(void *ctx)
{
	ids[0] = local_type_id(struct task_struct);
	ids[1] = local_type_id(u64[3]);
	ids[2] = local_type_id(struct { int only_here; });
	ids[3] = kernel_type_id(struct task_struct);
	ids[4] = kernel_type_id(struct sock);
	ids[5] = kernel_type_id(struct folio);
	ids[6] = kernel_type_id(blkcnt_t);
	ids[7] = kernel_type_id(struct task_struct___strange);
	return 0;
}

LICENSE;
