/* The border as C meets it: all that can be NULL is, numbers are too large, bytes are hostile, and threads ask at once. */

#include <btfleet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREADS 4

/* Unlike assert(), it checks in every build. */
#define CHECK(what)                                                                     \
    do {                                                                                \
        if (!(what)) {                                                                  \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what);                  \
            exit(1);                                                                    \
        }                                                                               \
    } while (0)

static void nothing_is_survived(void)
{
    btfleet_run *run = (btfleet_run *)&run;
    size_t len = 7;
    btfleet_inputs_free(NULL);
    btfleet_run_free(NULL);
    btfleet_verdicts_free(NULL);
    btfleet_records_free(NULL);
    btfleet_relocations_free(NULL);
    CHECK(btfleet_inputs_add_object(NULL, "x", NULL, 0) == BTFLEET_STATUS_ARGUMENT);
    CHECK(strstr(btfleet_last_error(), "NULL"));
    CHECK(btfleet_inputs_add_object_file(NULL, "x") == BTFLEET_STATUS_ARGUMENT);
    CHECK(btfleet_inputs_add_kernel(NULL, "x", NULL, 0) == BTFLEET_STATUS_ARGUMENT);
    CHECK(btfleet_inputs_add_kernel_file(NULL, "x") == BTFLEET_STATUS_ARGUMENT);
    CHECK(btfleet_inputs_add_module(NULL, "x", NULL, 0) == BTFLEET_STATUS_ARGUMENT);
    CHECK(btfleet_inputs_add_module_file(NULL, "x") == BTFLEET_STATUS_ARGUMENT);
    CHECK(btfleet_run_new(NULL, NULL, &run) == BTFLEET_STATUS_ARGUMENT && !run);
    CHECK(btfleet_run_new(NULL, NULL, NULL) == BTFLEET_STATUS_ARGUMENT);
    CHECK(btfleet_run_check(NULL, 0, NULL) == BTFLEET_STATUS_ARGUMENT);
    CHECK(btfleet_run_resolve(NULL, 0, NULL) == BTFLEET_STATUS_ARGUMENT);
    CHECK(btfleet_run_relocate(NULL, 0, NULL) == BTFLEET_STATUS_ARGUMENT);
    CHECK(!btfleet_run_object_count(NULL) && !btfleet_run_kernel_count(NULL) && !btfleet_run_defect_count(NULL));
    CHECK(!btfleet_run_object_name(NULL, 0) && !btfleet_run_kernel_name(NULL, 0) && !btfleet_run_defect(NULL, 0));
    CHECK(btfleet_run_check_packs(NULL) == BTFLEET_STATUS_ARGUMENT);
    CHECK(!btfleet_run_models(NULL) && !btfleet_run_refusal(NULL, 0, 0));
    CHECK(!btfleet_verdicts_count(NULL, 0) && !btfleet_verdicts_get(NULL, 0, 0));
    CHECK(!btfleet_records_count(NULL) && !btfleet_records_get(NULL, 0) && !btfleet_records_answer(NULL, 0, 0));
    CHECK(!btfleet_relocations_class_count(NULL) && btfleet_relocations_class_of(NULL, 0) == -1);
    CHECK(!btfleet_relocations_file(NULL, 0, &len) && len == 0);
    CHECK(!btfleet_relocations_file(NULL, 0, NULL) && !btfleet_relocations_obstacle(NULL, 0));
    CHECK(!btfleet_relocations_left_count(NULL, 0) && !btfleet_relocations_left(NULL, 0, 0));
    CHECK(!btfleet_relocations_program_count(NULL, 0) && !btfleet_relocations_program(NULL, 0, 0));
}

static void sizes_and_options_are_checked(void)
{
    btfleet_inputs *inputs = btfleet_inputs_new();
    btfleet_run *run;
    CHECK(btfleet_inputs_add_object(inputs, NULL, NULL, 0) == BTFLEET_STATUS_ARGUMENT);
    CHECK(btfleet_inputs_add_object(inputs, "x", NULL, 5) == BTFLEET_STATUS_ARGUMENT);
    CHECK(btfleet_inputs_add_object(inputs, "x", (const uint8_t *)"x", SIZE_MAX) == BTFLEET_STATUS_ARGUMENT);
    CHECK(btfleet_inputs_add_object_file(inputs, NULL) == BTFLEET_STATUS_ARGUMENT);
    CHECK(btfleet_run_new(inputs, NULL, NULL) == BTFLEET_STATUS_ARGUMENT);
    btfleet_options options = {.size = 4};
    CHECK(btfleet_run_new(inputs, &options, &run) == BTFLEET_STATUS_ARGUMENT && !run);
    options = (btfleet_options){.size = sizeof(options), .loader = "nobody"};
    CHECK(btfleet_run_new(inputs, &options, &run) == BTFLEET_STATUS_ARGUMENT && strstr(btfleet_last_error(), "nobody"));
    options = (btfleet_options){.size = sizeof(options), .modules = 9};
    CHECK(btfleet_run_new(inputs, &options, &run) == BTFLEET_STATUS_ARGUMENT);
    options = (btfleet_options){.size = sizeof(options), .threads = SIZE_MAX};
    CHECK(btfleet_run_new(inputs, &options, &run) == BTFLEET_STATUS_ARGUMENT);
    options = (btfleet_options){.size = sizeof(options), .kconfig = (const uint8_t *)"x", .kconfig_len = 1};
    CHECK(btfleet_run_new(inputs, &options, &run) == BTFLEET_STATUS_OPTIONS);
    btfleet_inputs_free(inputs);
}

static void hostile_bytes_are_defects(void)
{
    btfleet_inputs *inputs = btfleet_inputs_new();
    btfleet_run *run;
    CHECK(!btfleet_inputs_add_object(inputs, "empty", NULL, 0));
    CHECK(!btfleet_inputs_add_object(inputs, "\xff\xfe", (const uint8_t *)"\x7f" "ELF\2\1\1", 7));
    CHECK(!btfleet_inputs_add_kernel(inputs, "zstd", (const uint8_t *)"\x28\xb5\x2f\xfd\xff\xff", 6));
    CHECK(!btfleet_inputs_add_kernel(inputs, "btf", (const uint8_t *)"\x9f\xeb\1\0\x18\0\0\0\xff\xff\xff\xff", 12));
    CHECK(!btfleet_run_new(inputs, NULL, &run));
    btfleet_inputs_free(inputs);
    CHECK(btfleet_run_defect_count(run) == 4 && !btfleet_run_object_count(run) && !btfleet_run_kernel_count(run));
    for (size_t i = 0; i < 4; i++) {
        const btfleet_defect *defect = btfleet_run_defect(run, i);
        CHECK(defect->path && *defect->code && *defect->message && !defect->is_remark);
    }
    btfleet_verdicts *verdicts = (btfleet_verdicts *)&verdicts;
    CHECK(btfleet_run_check(run, 0, &verdicts) == BTFLEET_STATUS_NO_OBJECT && !verdicts);
    CHECK(btfleet_run_check(run, SIZE_MAX, &verdicts) == BTFLEET_STATUS_NO_OBJECT);
    btfleet_run_free(run);
}

/* A number that depends on all that the run says of object 0. */
static unsigned long long digest(const btfleet_run *run)
{
    unsigned long long sum = 5381;
    size_t kernels = btfleet_run_kernel_count(run);
    btfleet_verdicts *verdicts;
    btfleet_records *records;
    btfleet_relocations *relocations;
    CHECK(!btfleet_run_check(run, 0, &verdicts) && !btfleet_run_resolve(run, 0, &records));
    CHECK(!btfleet_run_relocate(run, 0, &relocations));
    for (size_t kernel = 0; kernel < kernels; kernel++) {
        CHECK(!btfleet_verdicts_get(verdicts, kernel, btfleet_verdicts_count(verdicts, kernel)));
        for (size_t i = 0; i < btfleet_verdicts_count(verdicts, kernel); i++) {
            const btfleet_verdict *verdict = btfleet_verdicts_get(verdicts, kernel, i);
            sum = sum * 33 + verdict->rank + strlen(verdict->program) + strlen(verdict->section);
            CHECK(*verdict->verdict && *verdict->confidence && verdict->judged_count && *verdict->judged[0]);
            for (size_t j = 0; j < verdict->assumption_count; j++)
                sum = sum * 33 + strlen(verdict->assumptions[j]);
            for (size_t j = 0; j < verdict->finding_count; j++)
                sum = sum * 33 + strlen(verdict->findings[j]->message) + strlen(verdict->findings[j]->code);
            if (verdict->aborted_by)
                sum += strlen(verdict->aborted_by->code);
        }
        CHECK(!btfleet_records_answer(records, kernel, btfleet_records_count(records)));
        for (size_t i = 0; i < btfleet_records_count(records); i++) {
            const btfleet_record *record = btfleet_records_get(records, i);
            const btfleet_answer *answer = btfleet_records_answer(records, kernel, i);
            CHECK(record && *record->path && answer && answer->insn_len == record->insn_len);
            sum = sum * 33 + answer->new_value + strlen(answer->code);
            for (size_t j = 0; j < answer->insn_len; j++)
                sum = sum * 33 + answer->insn[j];
        }
        int64_t number = btfleet_relocations_class_of(relocations, kernel);
        CHECK(number >= 0);
        size_t len;
        const uint8_t *file = btfleet_relocations_file(relocations, (size_t)number, &len);
        CHECK(!file == !!btfleet_relocations_obstacle(relocations, (size_t)number));
        for (size_t i = 0; file && i < len; i++)
            sum = sum * 33 + file[i];
        for (size_t i = 0; i < btfleet_relocations_program_count(relocations, (size_t)number); i++) {
            const btfleet_program *program = btfleet_relocations_program(relocations, (size_t)number, i);
            CHECK(*program->name && program->insns_len % 8 == 0);
            for (size_t j = 0; j < program->insns_len; j++)
                sum = sum * 33 + program->insns[j];
        }
    }
    CHECK(btfleet_relocations_class_of(relocations, kernels) == -1);
    btfleet_verdicts_free(verdicts);
    btfleet_records_free(records);
    btfleet_relocations_free(relocations);
    return sum;
}

static void *ask(void *run)
{
    unsigned long long *sum = malloc(sizeof(*sum));
    *sum = digest(run);
    /* Errors are those of the own thread. */
    CHECK(!*btfleet_last_error());
    return sum;
}

static void threads_are_told_the_same(int count, char **paths)
{
    btfleet_inputs *inputs = btfleet_inputs_new();
    CHECK(!btfleet_inputs_add_object_file(inputs, paths[0]));
    for (int i = 1; i < count; i++)
        CHECK(!btfleet_inputs_add_kernel_file(inputs, paths[i]));
    btfleet_options options = {.size = sizeof(options), .threads = 2};
    btfleet_run *run;
    CHECK(!btfleet_run_new(inputs, &options, &run));
    btfleet_inputs_free(inputs);
    CHECK(btfleet_run_kernel_count(run) == (size_t)count - 1 && !btfleet_run_defect_count(run));
    CHECK(!strcmp(btfleet_run_object_name(run, 0), paths[0]) && !btfleet_run_object_name(run, 1));
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        CHECK(!pthread_create(&threads[i], NULL, ask, run));
    unsigned long long expected = digest(run);
    for (int i = 0; i < THREADS; i++) {
        void *sum;
        CHECK(!pthread_join(threads[i], &sum));
        CHECK(*(unsigned long long *)sum == expected);
        free(sum);
    }
    /* What was asked of a run outlives it. */
    btfleet_verdicts *verdicts;
    CHECK(!btfleet_run_check(run, 0, &verdicts));
    CHECK(!btfleet_run_check_packs(run));
    btfleet_run_free(run);
    CHECK(btfleet_verdicts_count(verdicts, 0) && *btfleet_verdicts_get(verdicts, 0, 0)->program);
    btfleet_verdicts_free(verdicts);
}

int main(int argc, char **argv)
{
    CHECK(argc > 2);
    CHECK(btfleet_abi() == BTFLEET_ABI && *btfleet_version() && !*btfleet_last_error());
    threads_are_told_the_same(argc - 1, argv + 1);
    nothing_is_survived();
    sizes_and_options_are_checked();
    hostile_bytes_are_defects();
    puts("fine");
    return 0;
}
