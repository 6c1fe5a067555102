/* Synthetic: packed structs whose bitfields cross byte boundaries, signed and unsigned, up to 57 bits.
 *
 * No kernel has these types: against a real one every field is missing. They are meant for a target that
 * a test makes, with the fields moved. A field that does not fit a load of its own type's width needs a
 * wider one. clang loads all 8 bytes of an aligned(8) struct where libbpf computes the narrowest window,
 * which is why the local values of bitfields cannot be compared. The structs are aligned and no field
 * crosses 8 bytes, because clang gives up on others ("cross alignment boundary").
 *
 * Targets: bpfel bpfeb
 */
#include "core.h"

struct wire_header {
	u8 version : 4;
	u8 kind : 6;
	u16 length : 13;
	s32 delta : 9;
	u32 stream : 20;
	s16 level : 5;
	u8 urgent : 1;
	u8 tail : 6;
	u32 checksum : 23;
	u8 parity : 3;
	u64 sequence : 38;
} packed_8 core;

struct wide_counter {
	u64 flags : 7;
	u64 ticks : 57;
	s64 drift : 40;
	u64 lost : 24;
} packed_8 core;

struct nested_bits {
	union {
		struct {
			u16 low : 3;
			u16 high : 11;
			u32 top : 18;
		} packed_8;
		u64 both;
	};
	struct wire_header inner[2];
	u8 tag;
} packed_8 core;

u64 sum = 0;

SEC("raw_tp/wire_header")
int header(u64 *ctx)
{
	struct wire_header *wire = (void *)ctx[0];

	sum += READ_BITS(wire, version);
	sum += READ_BITS(wire, kind);
	sum += READ_BITS(wire, length);
	sum += READ_BITS(wire, delta);
	sum += READ_BITS(wire, stream);
	sum += READ_BITS(wire, level);
	sum += READ_BITS(wire, urgent);
	sum += READ_BITS(wire, tail);
	sum += READ_BITS(wire, checksum);
	sum += READ_BITS(wire, parity);
	sum += READ_BITS(wire, sequence);
	return 0;
}

SEC("raw_tp/wide_counter")
int counter(u64 *ctx)
{
	struct wide_counter *wide = (void *)ctx[0];

	sum += READ_BITS(wide, flags);
	sum += READ_BITS(wide, ticks);
	sum += READ_BITS(wide, drift);
	sum += READ_BITS(wide, lost);
	return 0;
}

/* Anonymous members and an array element on the way to the bits. */
SEC("raw_tp/nested_bits")
int nested(u64 *ctx)
{
	struct nested_bits *nested = (void *)ctx[0];

	sum += READ_BITS(nested, low);
	sum += READ_BITS(nested, high);
	sum += READ_BITS(nested, top);
	sum += READ_BITS(nested, both);
	sum += READ_BITS(nested, inner[1].delta);
	sum += READ(nested, tag);
	return 0;
}

LICENSE;
