/* No CO-RE at all: a packet counter that reads only its context and the packet.
 *
 * The object has BTF, and .BTF.ext with function and line information, but not one relocation record: it
 * is the same on every kernel.
 *
 * Targets: bpfel
 */
#include "core.h"

struct xdp_md {
	u32 data;
	u32 data_end;
};

struct ethernet {
	u8 to[6];
	u8 from[6];
	u16 protocol;
} packed;

struct {
	MAP_PARAM(type, MAP_PERCPU_ARRAY);
	MAP_PARAM(max_entries, 2);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, u64);
} packets SEC(".maps");

SEC("xdp")
int count(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethernet *frame = (void *)(long)ctx->data;
	u64 *count;
	u32 slot;

	if ((void *)(frame + 1) > end)
		return 1; /* drop */
	slot = frame->protocol == __builtin_bswap16(0x86dd);
	count = map_lookup(&packets, &slot);
	if (count)
		*count += 1;
	return 2; /* pass */
}

LICENSE;
