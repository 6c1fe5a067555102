/* Relocations in functions that programs call: a static and a global function, both in .text.
 *
 * The disk of a request moved from request.rq_disk to request_queue.disk (5.15, 5.17). Four programs in
 * four sections share the functions; the loader copies .text behind each program that calls into it, and
 * with it the records of .text, so one record of the object is applied in several programs.
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

struct bucket {
	u64 requests;
	u64 bytes;
	u64 total_ns;
};

struct {
	MAP_PARAM(type, MAP_HASH);
	MAP_PARAM(max_entries, 10240);
	MAP_TYPE(key, u64);
	MAP_TYPE(value, u64);
} started SEC(".maps");

struct {
	MAP_PARAM(type, MAP_HASH);
	MAP_PARAM(max_entries, 256);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct bucket);
} disks SEC(".maps");

/* Set by user space before loading: count writes only. */
const volatile bool only_writes = 0;

static noinline u32 device_of(struct request *rq)
{
	struct gendisk *disk;

	if (field_exists(MEMBER(struct request___old, rq_disk)))
		disk = READ((struct request___old *)rq, rq_disk);
	else
		disk = READ(READ(rq, q), disk);
	return (u32)READ(disk, major) << 20 | READ(disk, first_minor);
}

/* Global, so the verifier checks it once, on its own, for any argument. */
noinline int count(u64 key, u64 now)
{
	struct request *rq = (void *)key;
	u32 device = device_of(rq);
	u64 *start = map_lookup(&started, &key);
	struct bucket fresh = {}, *bucket;

	if (!start)
		return 0;
	bucket = map_lookup(&disks, &device);
	if (!bucket) {
		map_update(&disks, &device, &fresh, 1 /* only if absent */);
		return 0;
	}
	bucket->requests += 1;
	bucket->bytes += READ(rq, __data_len);
	bucket->total_ns += now - *start;
	return 1;
}

static noinline int start(struct request *rq)
{
	u64 key = (u64)rq, now = ktime_ns();

	if (only_writes && (READ(rq, cmd_flags) & 0xff) != 1)
		return 0;
	return map_update(&started, &key, &now, 0);
}

SEC("tp_btf/block_rq_insert")
int rq_insert(u64 *ctx)
{
	return start((void *)ctx[0]), 0;
}

SEC("tp_btf/block_rq_issue")
int rq_issue(u64 *ctx)
{
	return start((void *)ctx[0]), 0;
}

SEC("tp_btf/block_rq_complete")
int rq_complete(u64 *ctx)
{
	return count(ctx[0], ktime_ns()), 0;
}

/* For kernels without typed tracepoints. A request that was never queued is counted from its own clock. */
SEC("raw_tp/block_rq_complete")
int rq_complete_raw(u64 *ctx)
{
	struct request *rq = (void *)ctx[0];

	if (READ(rq, start_time_ns))
		count(ctx[0], ktime_ns());
	return 0;
}

LICENSE;
