// Command collection makes a CollectionSpec of a BPF object with every CO-RE relocation applied as libbpf applies it, and
// prints its programs. cilium/ebpf then loads them as they are: what is left to relocate are ids of the types of the
// object itself, which are not known before it is loaded.
//
//	go run . OBJECT KERNEL-BTF
package main

import (
	"bytes"
	"fmt"
	"os"

	"btfleet"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// relocatedSpec is the CollectionSpec of an object as it is after relocation for a kernel.
func relocatedSpec(object, kernel []byte) (*ebpf.CollectionSpec, error) {
	relocated, err := btfleet.Relocate(object, kernel)
	if err != nil {
		return nil, err
	}
	return ebpf.LoadCollectionSpecFromReader(bytes.NewReader(relocated))
}

// left counts the instructions that cilium/ebpf would relocate.
func left(spec *ebpf.CollectionSpec) int {
	count := 0
	for _, program := range spec.Programs {
		for i := range program.Instructions {
			if btf.CORERelocationMetadata(&program.Instructions[i]) != nil {
				count++
			}
		}
	}
	return count
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: collection OBJECT KERNEL-BTF")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(objectPath, kernelPath string) error {
	object, err := os.ReadFile(objectPath)
	if err != nil {
		return err
	}
	kernel, err := os.ReadFile(kernelPath)
	if err != nil {
		return err
	}
	before, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
	if err != nil {
		return err
	}
	spec, err := relocatedSpec(object, kernel)
	if err != nil {
		return err
	}
	for name, program := range spec.Programs {
		fmt.Printf("%s (%s): %d instructions\n", name, program.Type, len(program.Instructions))
	}
	fmt.Printf("instructions to relocate: %d before, %d after\n", left(before), left(spec))
	return nil
}
