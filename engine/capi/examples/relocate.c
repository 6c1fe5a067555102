/* Relocates a BPF object for a kernel's BTF: prints what becomes of each record, and writes the relocated object. */

#include <btfleet.h>
#include <stdio.h>

static int failed(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, btfleet_last_error());
    return 1;
}

/* One line for each record. */
static int print_records(const btfleet_run *run)
{
    btfleet_records *records;
    if (btfleet_run_resolve(run, 0, &records) != BTFLEET_STATUS_OK)
        return failed("resolve");
    for (size_t i = 0; i < btfleet_records_count(records); i++) {
        const btfleet_record *record = btfleet_records_get(records, i);
        const btfleet_answer *answer = btfleet_records_answer(records, 0, i);
        if (!answer) {
            fprintf(stderr, "%s\n", btfleet_run_refusal(run, 0, 0)->message);
            break;
        }
        printf("%s+%u %s %s: %s", record->section, (unsigned)record->insn_off, record->kind ? record->kind : "?",
               record->path, answer->code);
        if (answer->has_new)
            printf(" %llu -> %llu", (unsigned long long)answer->orig, (unsigned long long)answer->new_value);
        printf("\n");
    }
    btfleet_records_free(records);
    return 0;
}

static int write_object(const btfleet_run *run, const char *path)
{
    btfleet_relocations *relocations;
    if (btfleet_run_relocate(run, 0, &relocations) != BTFLEET_STATUS_OK)
        return failed("relocate");
    int result = 1;
    int64_t number = btfleet_relocations_class_of(relocations, 0);
    size_t len;
    const uint8_t *file = number < 0 ? NULL : btfleet_relocations_file(relocations, (size_t)number, &len);
    if (file) {
        FILE *out = fopen(path, "wb");
        result = !out || fwrite(file, 1, len, out) != len;
        if (out && fclose(out))
            result = 1;
        if (result)
            perror(path);
    } else if (number >= 0) {
        fprintf(stderr, "%s\n", btfleet_relocations_obstacle(relocations, (size_t)number)->message);
    }
    btfleet_relocations_free(relocations);
    return result;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: %s OBJECT KERNEL-BTF OUTPUT\n", argv[0]);
        return 2;
    }
    btfleet_inputs *inputs = btfleet_inputs_new();
    if (btfleet_inputs_add_object_file(inputs, argv[1]) || btfleet_inputs_add_kernel_file(inputs, argv[2]))
        return failed("inputs");
    btfleet_options options = {.size = sizeof(options), .threads = 1};
    btfleet_run *run;
    btfleet_status status = btfleet_run_new(inputs, &options, &run);
    btfleet_inputs_free(inputs);
    if (status != BTFLEET_STATUS_OK)
        return failed("run");
    for (size_t i = 0; i < btfleet_run_defect_count(run); i++) {
        const btfleet_defect *defect = btfleet_run_defect(run, i);
        fprintf(stderr, "%s: %s\n", defect->path, defect->message);
    }
    int result = 3;
    if (btfleet_run_object_count(run) == 1 && btfleet_run_kernel_count(run) == 1)
        result = print_records(run) || write_object(run, argv[3]);
    btfleet_run_free(run);
    return result;
}
