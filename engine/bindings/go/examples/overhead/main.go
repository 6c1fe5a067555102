// Command overhead measures what the border to Go costs: the same work by this package and by the Rust API, in processes of
// their own, in turns.
//
//	go run . ROUNDS RUST KERNEL... -- OBJECT...
//
// RUST is target/release/examples/overhead, see ../../../../capi/examples/overhead.rs. The work of both: inputs in memory to
// a run; of each object all records on all kernels, all verdicts, all relocated files with their programs. Shown are medians
// of processor time.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"sort"
	"strconv"
	"time"

	"btfleet"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 4 {
		return fmt.Errorf("usage: overhead ROUNDS RUST KERNEL... -- OBJECT...")
	}
	if args[0] == "go" {
		return once(args[1:])
	}
	rounds, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var ours, rusts []time.Duration
	for i := 0; i < rounds; i++ {
		rust, err := timed(args[1], "rust", args[2:])
		if err != nil {
			return err
		}
		own, err := timed(self, "go", args[2:])
		if err != nil {
			return err
		}
		rusts, ours = append(rusts, rust), append(ours, own)
	}
	rust, own := median(rusts), median(ours)
	fmt.Printf("Rust %v, Go %v: %+.1f %%\n", rust, own, 100*(own.Seconds()/rust.Seconds()-1))
	return nil
}

// timed gives the processor time of a process that does the work once.
func timed(program, mode string, inputs []string) (time.Duration, error) {
	command := exec.Command(program, append([]string{mode}, inputs...)...)
	command.Stderr = os.Stderr
	if err := command.Run(); err != nil {
		return 0, err
	}
	return command.ProcessState.UserTime() + command.ProcessState.SystemTime(), nil
}

func median(times []time.Duration) time.Duration {
	sort.Slice(times, func(i, j int) bool { return times[i] < times[j] })
	return times[len(times)/2]
}

func inputs(paths []string) ([]btfleet.Input, error) {
	var inputs []btfleet.Input
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		inputs = append(inputs, btfleet.Input{Name: path, Data: data})
	}
	return inputs, nil
}

// once does the work, and prints a sum over its rows.
func once(args []string) error {
	at := 0
	for at < len(args) && args[at] != "--" {
		at++
	}
	if at == len(args) {
		return fmt.Errorf("no objects")
	}
	kernels, err := inputs(args[:at])
	if err != nil {
		return err
	}
	objects, err := inputs(args[at+1:])
	if err != nil {
		return err
	}
	run, err := btfleet.New(objects, kernels, &btfleet.Options{Threads: 1})
	if err != nil {
		return err
	}
	defer run.Close()
	rows, bytes := 0, 0
	for object := range run.Objects {
		records, err := run.Resolve(object)
		if err != nil {
			return err
		}
		for _, answers := range records.Answers {
			rows += len(answers)
		}
		verdicts, err := run.Check(object)
		if err != nil {
			return err
		}
		for _, programs := range verdicts {
			rows += len(programs)
		}
		relocations, err := run.Relocate(object)
		if err != nil {
			return err
		}
		for _, it := range relocations {
			bytes += len(it.File)
		}
	}
	fmt.Println(rows, "rows,", bytes, "bytes of relocated files")
	return nil
}
