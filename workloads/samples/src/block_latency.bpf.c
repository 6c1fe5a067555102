/* Relocations in functions that programs call: static and global ones, all in .text.
 *
 * The disk of a request moved from request.rq_disk to request_queue.disk (5.17). Four programs in three
 * sections share the functions; the loader copies a function behind each program that calls it, and with
 * it the function's records, so one record of the object is applied in several programs.
 *
 * Targets: bpfel
 */
#include "core.h"

struct gendisk {
	int major;
	int first_minor;
} core;

struct request_queue {
	struct gendisk *disk;
} core;

struct request {
	struct request_queue *q;
	unsigned int cmd_flags;
	unsigned int __data_len;
	u64 start_time_ns;
} core;

struct request___old {
	struct gendisk *rq_disk;
} core;

struct task_struct {
	pid_t tgid;
	struct task_struct *group_leader;
	char comm[16];
} core;

struct start {
	u64 time_ns;
	u32 tgid;
	u32 sectors;
};

struct total {
	u64 requests;
	u64 bytes;
	u64 time_ns;
};

struct {
	MAP_PARAM(type, MAP_HASH);
	MAP_PARAM(max_entries, 10240);
	MAP_TYPE(key, u64);
	MAP_TYPE(value, struct start);
} started SEC(".maps");

struct {
	MAP_PARAM(type, MAP_HASH);
	MAP_PARAM(max_entries, 256);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct total);
} disks SEC(".maps");

/* Set by user space before loading: count writes only. */
const volatile bool only_writes = 0;

/* Global, so the verifier checks it once, on its own, for any argument. */
noinline u32 owner(u32 kernel_thread)
{
	struct task_struct *task = current_task();
	struct task_struct *leader = READ(task, group_leader);
	char initial = READ(leader, comm[0]);

	return initial == 'k' ? kernel_thread : (u32)READ(leader, tgid);
}

static noinline u32 device_of(struct request *rq)
{
	struct gendisk *disk;

	if (field_exists(MEMBER(struct request___old, rq_disk)))
		disk = READ((struct request___old *)rq, rq_disk);
	else
		disk = READ(READ(rq, q), disk);
	return (u32)READ(disk, major) << 20 | READ(disk, first_minor);
}

static noinline int start(struct request *rq)
{
	u64 key = (u64)rq;
	struct start start = {};

	if (only_writes && (READ(rq, cmd_flags) & 0xff) != 1)
		return 0;
	start.time_ns = ktime_ns();
	start.tgid = owner(2);
	start.sectors = READ(rq, __data_len) >> 9;
	return map_update(&started, &key, &start, 0);
}

static noinline int complete(struct request *rq)
{
	u64 key = (u64)rq;
	u32 device = device_of(rq);
	struct start *start = map_lookup(&started, &key);
	struct total *total, fresh = {};

	if (!start)
		return 0;
	total = map_lookup(&disks, &device);
	if (!total) {
		map_update(&disks, &device, &fresh, 1 /* only if absent */);
		return 0;
	}
	total->requests += 1;
	total->bytes += (u64)start->sectors << 9;
	total->time_ns += ktime_ns() - start->time_ns;
	return 1;
}

SEC("tp_btf/block_rq_issue")
int rq_issue(u64 *ctx)
{
	start((void *)ctx[0]);
	return 0;
}

SEC("tp_btf/block_rq_complete")
int rq_complete(u64 *ctx)
{
	complete((void *)ctx[0]);
	return 0;
}

/* For kernels without typed tracepoints. A request without a clock of its own was never queued. */
SEC("raw_tp/block_rq_complete")
int rq_complete_raw(u64 *ctx)
{
	struct request *rq = (void *)ctx[0];

	if (READ(rq, start_time_ns))
		complete(rq);
	return 0;
}

SEC("tp_btf/block_rq_issue")
int rq_owner(u64 *ctx)
{
	u64 key = ctx[0];
	struct start *start = map_lookup(&started, &key);

	if (start)
		start->tgid = owner(0);
	return 0;
}

LICENSE;
