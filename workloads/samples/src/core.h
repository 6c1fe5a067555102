/* What every sample needs: fixed-width types, section and map attributes, the CO-RE builtins under
 * readable names, and the helper functions the samples call.
 *
 * The samples include no kernel or libbpf header. Each declares the few members it reads, under the
 * kernel's names, so that the type information of an object stays as small as its program.
 */
#ifndef SAMPLES_CORE_H
#define SAMPLES_CORE_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed char s8;
typedef short s16;
typedef int s32;
typedef long long s64;
typedef _Bool bool;
typedef int pid_t;

#define SEC(name) __attribute__((section(name), used))
#define noinline __attribute__((__noinline__))
#define inline_always inline __attribute__((__always_inline__))
#define weak __attribute__((__weak__))
#define packed __attribute__((__packed__))
#define packed_8 __attribute__((__packed__, aligned(8)))

/* Every access to a member of a type with this attribute becomes a byte_off record. */
#define core __attribute__((preserve_access_index))

/* Symbols that the loader resolves: in the kernel, or in its configuration. */
#define ksym __attribute__((section(".ksyms")))
#define kconfig __attribute__((section(".kconfig")))

/* A map is a variable in ".maps" whose member types carry its parameters. */
#define MAP_PARAM(name, value) int(*name)[value]
#define MAP_TYPE(name, type) type *name
enum { MAP_HASH = 1, MAP_ARRAY = 2, MAP_PERCPU_ARRAY = 6, MAP_RINGBUF = 27 };

/* Questions about a field. `f` is an access such as `task->comm` or MEMBER(struct task_struct, comm). */
#define MEMBER(type, f) (((type *)0)->f)
#define field_offset(f) __builtin_preserve_field_info(f, 0)
#define field_size(f) __builtin_preserve_field_info(f, 1)
#define field_exists(f) __builtin_preserve_field_info(f, 2)
#define field_signed(f) __builtin_preserve_field_info(f, 3)
#define field_lshift(f) __builtin_preserve_field_info(f, 4)
#define field_rshift(f) __builtin_preserve_field_info(f, 5)

/* Questions about a type. */
#define type_exists(type) __builtin_preserve_type_info(*(type *)0, 0)
#define type_size(type) __builtin_preserve_type_info(*(type *)0, 1)
#define type_matches(type) __builtin_preserve_type_info(*(type *)0, 2)
#define local_type_id(type) __builtin_btf_type_id(*(typeof(type) *)0, 0)
#define kernel_type_id(type) __builtin_btf_type_id(*(typeof(type) *)0, 1)

/* Questions about an enumerator. */
#define enum_value_exists(type, value) __builtin_preserve_enum_value(*(type *)value, 0)
#define enum_value(type, value) __builtin_preserve_enum_value(*(type *)value, 1)

/* Helper functions, by their number in enum bpf_func_id. */
static void *(*const map_lookup)(void *map, const void *key) = (void *)1;
static long (*const map_update)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static u64 (*const ktime_ns)(void) = (void *)5;
static u32 (*const smp_processor_id)(void) = (void *)8;
static u64 (*const current_pid_tgid)(void) = (void *)14;
static void *(*const current_task)(void) = (void *)35;
static long (*const probe_read)(void *dst, u32 size, const void *src) = (void *)113;
static long (*const probe_read_str)(void *dst, u32 size, const void *src) = (void *)115;
static long (*const seq_write)(void *seq, const void *data, u32 len) = (void *)127;
static long (*const ringbuf_output)(void *ringbuf, void *data, u64 size, u64 flags) = (void *)130;
static void *(*const skc_to_tcp_sock)(void *sk) = (void *)137;
static void *(*const per_cpu_ptr)(const void *percpu, u32 cpu) = (void *)153;

/* `p->f`, read with a helper: for pointers that the verifier does not let a program follow. */
#define READ(p, f)                                      \
	({                                              \
		typeof((p)->f) value_;                  \
		probe_read((void *)&value_, sizeof(value_), &(p)->f); \
		value_;                                 \
	})

/* The same for a string stored in the struct itself. `dst` has to be an array. */
#define READ_STR(dst, p, f) probe_read_str(dst, sizeof(dst), &(p)->f)

/* Moves the bits of field `f` from the load that covers them, `raw`, down to bit 0. */
#define SHIFT_BITS(raw, f)                                                              \
	(field_signed(f) ? (u64)((s64)((raw) << field_lshift(f)) >> field_rshift(f)) : \
			   ((raw) << field_lshift(f)) >> field_rshift(f))

/* The bitfield `p->f`, loaded directly. The load's width is the kernel's, known only after relocation,
 * so all four are compiled and three of them end up unreachable. The empty asm keeps the offset out of
 * the loads: a load with a record of its own is resized to the member's width, or poisoned if it cannot be.
 */
#define LOAD_BITS(p, f)                                                     \
	({                                                                  \
		const void *at_ = (const void *)(p) + field_offset((p)->f); \
		asm volatile("" : "+r"(at_));                               \
		u64 raw_ = 0;                                               \
		switch (field_size((p)->f)) {                               \
		case 1: raw_ = *(const volatile u8 *)at_; break;            \
		case 2: raw_ = *(const volatile u16 *)at_; break;           \
		case 4: raw_ = *(const volatile u32 *)at_; break;           \
		case 8: raw_ = *(const volatile u64 *)at_; break;           \
		}                                                           \
		SHIFT_BITS(raw_, (p)->f);                                   \
	})

/* The same through probe_read. The shifts assume a 64-bit load, so in big endian the bytes that were
 * read have to end where the 64 bits end.
 */
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define BITS_START(size) (8 - (size))
#else
#define BITS_START(size) 0
#endif
#define READ_BITS(p, f)                                                             \
	({                                                                          \
		u64 raw_ = 0;                                                       \
		u32 size_ = field_size((p)->f);                                     \
		probe_read((u8 *)&raw_ + BITS_START(size_), size_,                  \
			   (const void *)(p) + field_offset((p)->f));               \
		SHIFT_BITS(raw_, (p)->f);                                           \
	})

/* The samples call helper functions that the kernel keeps for GPL-compatible programs. */
#define LICENSE char license_[] SEC("license") = "Dual MIT/GPL"

#endif
