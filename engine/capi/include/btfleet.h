/*
 * btfleet: BPF CO-RE relocation for many programs on many kernels, from files, bit-identical to libbpf.
 *
 * Made by cbindgen from the sources in src/; do not edit. engine/capi/README.md has the rules, engine/capi/examples
 * has examples.
 *
 * In short: handles are made by the library and freed with the function of their name, in any order. Rows, names and
 * bytes belong to the handle that they were asked of and last until it is freed. NULL is allowed everywhere, and is
 * answered with an error, NULL or 0. Handles but btfleet_inputs may be used by many threads at once. Text is UTF-8.
 */

#ifndef BTFLEET_H
#define BTFLEET_H

#include <stddef.h>
#include <stdint.h>

/**
 * Number of the interface. Libraries of the same number take the same calls; the soname has it, too.
 */
#define BTFLEET_ABI 1

/**
 * A module is judged by itself, as if only it were loaded.
 */
#define BTFLEET_MODULES_EACH 0

/**
 * All modules of a kernel are loaded, in their order.
 */
#define BTFLEET_MODULES_ALL 1

/**
 * How a call ended.
 */
typedef enum btfleet_status {
  /**
   * Well.
   */
  BTFLEET_STATUS_OK = 0,
  /**
   * An argument is NULL that must not be, or makes no sense.
   */
  BTFLEET_STATUS_ARGUMENT = 1,
  /**
   * The options ask for what cannot be had.
   */
  BTFLEET_STATUS_OPTIONS = 2,
  /**
   * There is no object of that number.
   */
  BTFLEET_STATUS_NO_OBJECT = 3,
  /**
   * A pack is damaged: no answer of the run can be trusted.
   */
  BTFLEET_STATUS_PACK = 4,
  /**
   * A bug in the library. What was asked for is not there; everything else can be used on.
   */
  BTFLEET_STATUS_PANIC = 5,
} btfleet_status;

/**
 * Objects and kernels of a run to come. One thread at a time.
 */
typedef struct btfleet_inputs btfleet_inputs;

/**
 * The records of one object, and what becomes of them. Any number of threads may use it at once.
 */
typedef struct btfleet_records btfleet_records;

/**
 * The files of one object after relocation; kernels that need the same are a class. Any number of threads may use it at
 * once.
 */
typedef struct btfleet_relocations btfleet_relocations;

/**
 * Objects and kernels, and the answers. It does not change: any number of threads may use it at once.
 */
typedef struct btfleet_run btfleet_run;

/**
 * Verdicts on the programs of one object. Any number of threads may use it at once.
 */
typedef struct btfleet_verdicts btfleet_verdicts;

/**
 * What an object's file says of one CO-RE record.
 */
typedef struct btfleet_record {
  /**
   * The ELF section.
   */
  const char *section;
  /**
   * The program that has the instruction, or NULL.
   */
  const char *program;
  /**
   * Offset of the instruction, in bytes within the section.
   */
  uint32_t insn_off;
  /**
   * The kind as a number: enum bpf_core_relo_kind.
   */
  uint32_t raw_kind;
  /**
   * The kind's name, or NULL.
   */
  const char *kind;
  /**
   * Root type, an id of the object's BTF.
   */
  uint32_t type_id;
  /**
   * Source line, or 0.
   */
  uint32_t line;
  /**
   * Source file, or NULL.
   */
  const char *file;
  /**
   * Kind and name of the root.
   */
  const char *root;
  /**
   * Access string.
   */
  const char *access;
  /**
   * The same in names.
   */
  const char *path;
  /**
   * The instruction as it is in the file.
   */
  const uint8_t *insn;
  /**
   * Its length in bytes: 8 or 16, or 0 if it is inside no program.
   */
  size_t insn_len;
} btfleet_record;

/**
 * The answer with one module loaded.
 */
typedef struct btfleet_module_answer {
  /**
   * The module.
   */
  const char *module;
  /**
   * The answer.
   */
  const struct btfleet_answer *answer;
} btfleet_module_answer;

/**
 * What becomes of one record on one kernel.
 */
typedef struct btfleet_answer {
  /**
   * Stable code.
   */
  const char *code;
  /**
   * Why it is missing or poisoned, or NULL.
   */
  const char *reason;
  /**
   * The loader's error number, negative, if the load ends; else 0.
   */
  int32_t fatal;
  /**
   * Not 0: `insn` is the poison call.
   */
  uint32_t poisoned;
  /**
   * Not 0: the record was decided. If it is 0, the numbers below are 0, too.
   */
  uint32_t has_orig;
  /**
   * Not 0: there is `new_value`.
   */
  uint32_t has_new;
  /**
   * The value in the compiled instruction.
   */
  uint64_t orig;
  /**
   * The value on this kernel.
   */
  uint64_t new_value;
  /**
   * Not 0: the kernel does not have it.
   */
  uint32_t unresolved;
  /**
   * Not 0: the instruction has to hold `orig`.
   */
  uint32_t validate;
  /**
   * Size of the field in the object, in bytes.
   */
  uint32_t orig_sz;
  /**
   * Size of the field in the kernel, in bytes.
   */
  uint32_t new_sz;
  /**
   * Not 0: the access cannot be made that wide.
   */
  uint32_t resize_fails;
  /**
   * Id of the first candidate that matches, in the kernel's BTF; 0 if there is none.
   */
  uint32_t root_id;
  /**
   * Kind and name of the field's type in the kernel, or NULL.
   */
  const char *target;
  /**
   * The module that it is from, or NULL.
   */
  const char *target_module;
  /**
   * The instruction after relocation.
   */
  const uint8_t *insn;
  /**
   * Its length in bytes.
   */
  size_t insn_len;
  /**
   * Only where modules disagree: the answer with each of them alone.
   */
  const struct btfleet_module_answer *const *by_module;
  /**
   * Number of them.
   */
  size_t by_module_count;
} btfleet_answer;

/**
 * Why an object has no file for some kernels, or a program is left as it was.
 */
typedef struct btfleet_obstacle {
  /**
   * Stable code.
   */
  const char *code;
  /**
   * ELF section of the record that it is about, or NULL.
   */
  const char *section;
  /**
   * Its program, or NULL.
   */
  const char *program;
  /**
   * Offset of its instruction, in bytes within the section, or -1.
   */
  int64_t insn_off;
  /**
   * libbpf's error number, negative, if it gives up; else 0.
   */
  int32_t fatal;
  /**
   * One sentence.
   */
  const char *message;
} btfleet_obstacle;

/**
 * A program after relocation, linked with all functions that it calls.
 */
typedef struct btfleet_program {
  /**
   * Its name.
   */
  const char *name;
  /**
   * Its ELF section.
   */
  const char *section;
  /**
   * Not 0: it is left as it was, with its records to apply.
   */
  uint32_t left;
  /**
   * Instructions in the byte order of the object. Maps and the kernel's symbols are for the loader to fill in.
   */
  const uint8_t *insns;
  /**
   * Their length in bytes.
   */
  size_t insns_len;
} btfleet_program;

/**
 * What bears on the answers beside the inputs. All zero but `size` is what most want.
 */
typedef struct btfleet_options {
  /**
   * sizeof(btfleet_options): later versions of the library have more fields, and take those not given for 0.
   */
  size_t size;
  /**
   * Whose answers are wanted: libbpf, kernel, kernel:RELEASE, aya or ebpf-go; NULL is libbpf.
   */
  const char *loader;
  /**
   * BTFLEET_MODULES_EACH or BTFLEET_MODULES_ALL.
   */
  uint32_t modules;
  /**
   * Not 0: programs in sections with a leading '?' are left as they are.
   */
  uint32_t respect_autoload;
  /**
   * Text of the configuration of all kernels; NULL takes what lies beside the file of each.
   */
  const uint8_t *kconfig;
  /**
   * Its length in bytes.
   */
  size_t kconfig_len;
  /**
   * Number of threads; 0 takes one per core. The answers do not depend on it.
   */
  size_t threads;
} btfleet_options;

/**
 * An input that cannot be used, or a remark on one that can.
 */
typedef struct btfleet_defect {
  /**
   * The input.
   */
  const char *path;
  /**
   * Stable code.
   */
  const char *code;
  /**
   * Where in it, in bytes; -1 if that cannot be said.
   */
  int64_t offset;
  /**
   * The reason.
   */
  const char *message;
  /**
   * Not 0: a remark; the input is judged all the same.
   */
  uint32_t is_remark;
} btfleet_defect;

/**
 * Why an object and a kernel cannot be judged together.
 */
typedef struct btfleet_refusal {
  /**
   * Stable code.
   */
  const char *code;
  /**
   * One sentence.
   */
  const char *message;
} btfleet_refusal;

/**
 * The record that ends the load of an object.
 */
typedef struct btfleet_abort {
  /**
   * Its ELF section.
   */
  const char *section;
  /**
   * Its program, or NULL.
   */
  const char *program;
  /**
   * Offset of its instruction, in bytes within the section.
   */
  uint32_t insn_off;
  /**
   * The loader's error number, negative.
   */
  int32_t fatal;
  /**
   * Stable code.
   */
  const char *code;
} btfleet_abort;

/**
 * Something that bears on a verdict.
 */
typedef struct btfleet_finding {
  /**
   * Stable code.
   */
  const char *code;
  /**
   * What it does to the program.
   */
  const char *effect;
  /**
   * Offset of the record's instruction, in bytes within its section; -1 if it is about no record.
   */
  int64_t insn_off;
  /**
   * Kind and name of the record's root, or NULL.
   */
  const char *root;
  /**
   * What the record accesses, or NULL.
   */
  const char *path;
  /**
   * What it is about, if that is no record, or NULL.
   */
  const char *subject;
  /**
   * Source file, or NULL.
   */
  const char *file;
  /**
   * Source line, or -1.
   */
  int64_t line;
  /**
   * One sentence.
   */
  const char *message;
} btfleet_finding;

/**
 * Verdict on one program on one kernel.
 */
typedef struct btfleet_verdict {
  /**
   * The program.
   */
  const char *program;
  /**
   * Its ELF section.
   */
  const char *section;
  /**
   * Not 0: libbpf loads it unasked.
   */
  uint32_t autoload;
  /**
   * The higher, the worse: 0 ok, 1 ok-drift, 2 conditional, 3 unknown, 4 fail-attach, 5 fail-symbol, 6 fail-reloc.
   */
  uint32_t rank;
  /**
   * The same as text.
   */
  const char *verdict;
  /**
   * proved or bounded.
   */
  const char *confidence;
  /**
   * What was judged.
   */
  const char *const *judged;
  /**
   * Number of them.
   */
  size_t judged_count;
  /**
   * The record that ends the load of the object, or NULL.
   */
  const struct btfleet_abort *aborted_by;
  /**
   * What the verdict takes for granted.
   */
  const char *const *assumptions;
  /**
   * Number of them.
   */
  size_t assumption_count;
  /**
   * Everything that bears on it.
   */
  const struct btfleet_finding *const *findings;
  /**
   * Number of them.
   */
  size_t finding_count;
} btfleet_verdict;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Number of the interface that this library has: `BTFLEET_ABI` of the header that it was built with.
 */
uint32_t btfleet_abi(void);

/**
 * Version of the library.
 */
const char *btfleet_version(void);

/**
 * Why the last call on this thread failed that did; empty if none has. It lasts until the next one that does.
 */
const char *btfleet_last_error(void);

/**
 * No inputs yet. NULL only if there is no memory.
 */
struct btfleet_inputs *btfleet_inputs_new(void);

/**
 * Frees inputs, whether a run took them or not.
 */
void btfleet_inputs_free(struct btfleet_inputs *inputs);

/**
 * Adds a BPF object in memory, under a name. The bytes are copied.
 *
 * # Safety
 * `name` is a string, and `data` has `len` bytes.
 */
enum btfleet_status btfleet_inputs_add_object(struct btfleet_inputs *inputs,
                                              const char *name,
                                              const uint8_t *data,
                                              size_t len);

/**
 * Adds a file with a BPF object, under its path. It is read when the run is made.
 *
 * # Safety
 * `path` is a string.
 */
enum btfleet_status btfleet_inputs_add_object_file(struct btfleet_inputs *inputs, const char *path);

/**
 * Adds a kernel in memory, under a name: raw BTF, an ELF file with .BTF, either compressed with zstd; or a pack with all
 * its kernels, which have names of their own. The bytes are copied.
 *
 * # Safety
 * `name` is a string, and `data` has `len` bytes.
 */
enum btfleet_status btfleet_inputs_add_kernel(struct btfleet_inputs *inputs,
                                              const char *name,
                                              const uint8_t *data,
                                              size_t len);

/**
 * The same of a file, under its path. It is read when the run is made.
 *
 * # Safety
 * `path` is a string.
 */
enum btfleet_status btfleet_inputs_add_kernel_file(struct btfleet_inputs *inputs, const char *path);

/**
 * Adds a module of the kernel that was added last: its BTF, raw or in an ELF file. The bytes are copied.
 *
 * # Safety
 * `name` is a string, and `data` has `len` bytes.
 */
enum btfleet_status btfleet_inputs_add_module(struct btfleet_inputs *inputs,
                                              const char *name,
                                              const uint8_t *data,
                                              size_t len);

/**
 * The same of a file, which names the module. It is read when the run is made.
 *
 * # Safety
 * `path` is a string.
 */
enum btfleet_status btfleet_inputs_add_module_file(struct btfleet_inputs *inputs, const char *path);

/**
 * Tells what becomes of every record of an object on every kernel.
 */
enum btfleet_status btfleet_run_resolve(const struct btfleet_run *run,
                                        size_t object,
                                        struct btfleet_records **records);

/**
 * Frees records.
 */
void btfleet_records_free(struct btfleet_records *records);

/**
 * Number of records of the object.
 */
size_t btfleet_records_count(const struct btfleet_records *records);

/**
 * A record, in the order of the file; NULL if there is none of that number.
 */
const struct btfleet_record *btfleet_records_get(const struct btfleet_records *records, size_t record);

/**
 * What becomes of a record on a kernel; NULL if there is none of that number, or the object cannot be judged on that
 * kernel.
 */
const struct btfleet_answer *btfleet_records_answer(const struct btfleet_records *records,
                                                    size_t kernel,
                                                    size_t record);

/**
 * Relocates an object for every kernel, as libbpf does.
 */
enum btfleet_status btfleet_run_relocate(const struct btfleet_run *run,
                                         size_t object,
                                         struct btfleet_relocations **relocations);

/**
 * Frees relocations.
 */
void btfleet_relocations_free(struct btfleet_relocations *relocations);

/**
 * Number of classes. Kernels that the object cannot be judged on are in none.
 */
size_t btfleet_relocations_class_count(const struct btfleet_relocations *relocations);

/**
 * The class of a kernel, or -1.
 */
int64_t btfleet_relocations_class_of(const struct btfleet_relocations *relocations, size_t kernel);

/**
 * Why there is no file for a class; NULL if there is one.
 */
const struct btfleet_obstacle *btfleet_relocations_obstacle(const struct btfleet_relocations *relocations,
                                                            size_t class_);

/**
 * The object's file for a class, and its length; NULL if there is none.
 */
const uint8_t *btfleet_relocations_file(const struct btfleet_relocations *relocations,
                                        size_t class_,
                                        size_t *len);

/**
 * Number of records because of which programs are left as they were in the file for a class.
 */
size_t btfleet_relocations_left_count(const struct btfleet_relocations *relocations, size_t class_);

/**
 * Such a record; NULL if there is none of that number.
 */
const struct btfleet_obstacle *btfleet_relocations_left(const struct btfleet_relocations *relocations,
                                                        size_t class_,
                                                        size_t number);

/**
 * Number of programs in the file for a class, subprograms aside.
 */
size_t btfleet_relocations_program_count(const struct btfleet_relocations *relocations, size_t class_);

/**
 * A program of the file for a class, in the order of the file; NULL if there is none of that number.
 */
const struct btfleet_program *btfleet_relocations_program(const struct btfleet_relocations *relocations,
                                                          size_t class_,
                                                          size_t program);

/**
 * Reads and parses the inputs, and answers all questions of the objects for all kernels. `options` may be NULL.
 *
 * The inputs are empty afterwards, and still to be freed. Inputs that cannot be used are defects of the run, which is one
 * without them.
 *
 * # Safety
 * `options` has as many bytes as its field `size` says, and `kconfig` as `kconfig_len` says.
 */
enum btfleet_status btfleet_run_new(struct btfleet_inputs *inputs,
                                    const struct btfleet_options *options,
                                    struct btfleet_run **run);

/**
 * Looks whether a pack turned out to be damaged while answers were looked up, at the latest when their rows were read: none
 * of the run's answers can be trusted then.
 */
enum btfleet_status btfleet_run_check_packs(const struct btfleet_run *run);

/**
 * Frees a run. What was asked of it stays.
 */
void btfleet_run_free(struct btfleet_run *run);

/**
 * Whose answers they are: the version of libbpf, for example.
 */
const char *btfleet_run_models(const struct btfleet_run *run);

/**
 * Number of objects that are judged, in the order in which they were added.
 */
size_t btfleet_run_object_count(const struct btfleet_run *run);

/**
 * Name of an object; NULL if there is none of that number.
 */
const char *btfleet_run_object_name(const struct btfleet_run *run, size_t object);

/**
 * Number of kernels that are judged on, in the order in which they were added.
 */
size_t btfleet_run_kernel_count(const struct btfleet_run *run);

/**
 * Name of a kernel; NULL if there is none of that number.
 */
const char *btfleet_run_kernel_name(const struct btfleet_run *run, size_t kernel);

/**
 * Number of defects of the inputs.
 */
size_t btfleet_run_defect_count(const struct btfleet_run *run);

/**
 * A defect of the inputs; NULL if there is none of that number.
 */
const struct btfleet_defect *btfleet_run_defect(const struct btfleet_run *run, size_t defect);

/**
 * Why an object cannot be judged on a kernel; NULL if it can.
 */
const struct btfleet_refusal *btfleet_run_refusal(const struct btfleet_run *run,
                                                  size_t object,
                                                  size_t kernel);

/**
 * Judges every program of an object on every kernel.
 */
enum btfleet_status btfleet_run_check(const struct btfleet_run *run,
                                      size_t object,
                                      struct btfleet_verdicts **verdicts);

/**
 * Frees verdicts.
 */
void btfleet_verdicts_free(struct btfleet_verdicts *verdicts);

/**
 * Number of programs that there is a verdict on; 0 if the object cannot be judged on that kernel.
 */
size_t btfleet_verdicts_count(const struct btfleet_verdicts *verdicts, size_t kernel);

/**
 * The verdict on a program, in the order of the file; NULL if there is none of that number.
 */
const struct btfleet_verdict *btfleet_verdicts_get(const struct btfleet_verdicts *verdicts,
                                                   size_t kernel,
                                                   size_t program);

#ifdef __cplusplus
} // extern "C"
#endif // __cplusplus

#endif /* BTFLEET_H */
