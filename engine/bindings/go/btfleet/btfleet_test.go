package btfleet

import (
	"bytes"
	"errors"
	"os"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// The test of the Rust side names them: an object, an older and a newer kernel, and the object relocated for the latter.
func file(t testing.TB, variable string) []byte {
	path := os.Getenv(variable)
	if path == "" {
		t.Skip(variable + " is not set")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func newRun(t testing.TB, options *Options) *Run {
	run, err := New(
		[]Input{{Name: "broken.o", Data: []byte("no object")}, {Name: "x.o", Data: file(t, "BTFLEET_OBJECT")}},
		[]Input{{Name: os.Getenv("BTFLEET_OLD")}, {Name: "6.99.0", Data: file(t, "BTFLEET_NEW")}},
		options)
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// Check that bytes go in and come out, and are those of the Rust side.
func TestRelocateIsThatOfRust(t *testing.T) {
	object, expected := file(t, "BTFLEET_OBJECT"), file(t, "BTFLEET_EXPECTED")
	relocated, err := Relocate(object, file(t, "BTFLEET_NEW"))
	if err != nil || !bytes.Equal(relocated, expected) {
		t.Fatalf("%v, %d bytes", err, len(relocated))
	}
	if bytes.Equal(object, expected) {
		t.Fatal("nothing to relocate")
	}
}

// Check that a defective input is a row, and what is left is judged.
func TestRowsAreComplete(t *testing.T) {
	run := newRun(t, nil)
	defer run.Close()
	if len(run.Defects) != 1 || run.Defects[0].Path != "broken.o" || run.Defects[0].Code != "object-defective" {
		t.Fatalf("%+v", run.Defects)
	}
	if !reflect.DeepEqual(run.Objects, []string{"x.o"}) || len(run.Kernels) != 2 || run.Models == "" {
		t.Fatalf("%+v", run)
	}
	verdicts, err := run.Check(0)
	if err != nil || len(verdicts) != 2 || len(verdicts[0]) != 1 {
		t.Fatalf("%v %+v", err, verdicts)
	}
	if it := verdicts[1][0]; it.Program != "exec" || it.Verdict != "ok" || it.Rank != 0 || len(it.Judged) != 5 {
		t.Fatalf("%+v", it)
	}
	records, err := run.Resolve(0)
	if err != nil || len(records.Records) != 10 || len(records.Answers) != 2 || len(records.Answers[1]) != 10 {
		t.Fatalf("%v %+v", err, records)
	}
	record, answer := records.Records[0], records.Answers[1][0]
	if record.Path != "task_struct.real_parent" || *answer.Orig != 8 || *answer.New != 2888 || len(answer.Insn) != 8 {
		t.Fatalf("%+v %+v", record, answer)
	}
	relocations, err := run.Relocate(0)
	if err != nil || len(relocations) != 2 || relocations[0].Kernels[0] != 0 || len(relocations[1].Programs) != 1 {
		t.Fatalf("%v %+v", err, relocations)
	}
}

// Check that what cannot be had is an error with a text.
func TestErrorsHaveTexts(t *testing.T) {
	if _, err := Relocate(nil, nil); err == nil {
		t.Fatal("nothing is no object")
	}
	if _, err := New(nil, nil, &Options{Loader: "nobody"}); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Fatal(err)
	}
	run := newRun(t, &Options{Loader: "kernel:6.12", AllModules: true, RespectAutoload: true, Threads: 2})
	for _, number := range []int{-1, 1, 1 << 40} {
		if _, err := run.Check(number); err == nil {
			t.Fatal(number)
		}
	}
	var failed *Error
	if _, err := run.Relocate(0); !errors.As(err, &failed) || failed.Status != 2 {
		t.Fatal(err)
	}
	run.Close()
	run.Close()
	if _, err := run.Check(0); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	if run.Refusal(0, 0) != nil {
		t.Fatal("a closed run knows nothing")
	}
}

// Check that goroutines may ask at once, and that runs which nobody closes are freed.
func TestGoroutinesAreToldTheSame(t *testing.T) {
	run := newRun(t, &Options{Threads: 2})
	expected, err := run.Check(0)
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for i := 0; i < 8; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			verdicts, err := run.Check(0)
			if err != nil || !reflect.DeepEqual(verdicts, expected) {
				t.Errorf("%v %+v", err, verdicts)
			}
		}()
	}
	group.Wait()
	run = nil
	runtime.GC()
}
