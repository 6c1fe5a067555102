// Answers of cilium/ebpf itself: what it makes of every CO-RE record of objects on kernels' BTF.
//
// Built in a checkout of github.com/cilium/ebpf, as `answers/main.go`:
//
//	go run ./answers OBJECT... -- KERNEL.btf...
//
// One line for each record of each program as it is loaded, flattened with the functions that it calls:
// object, kernel, program, function, byte offset in the function, record, fixup, and the instruction in hex after it
// was relocated, or `error` with its text. An error of the program as a whole stands on a line of its own.
package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"sort"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

func load(path string) (*btf.Spec, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return btf.LoadSpecFromReader(bytes.NewReader(data))
}

func main() {
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	var objects, kernels []string
	into := &objects
	for _, arg := range os.Args[1:] {
		if arg == "--" {
			into = &kernels
		} else {
			*into = append(*into, arg)
		}
	}
	for _, kernel := range kernels {
		target, err := load(kernel)
		if err != nil {
			fmt.Fprintf(out, "-\t%s\tunread\t%v\n", filepath.Base(kernel), err)
			continue
		}
		for _, object := range objects {
			data, err := os.ReadFile(object)
			if err != nil {
				panic(err)
			}
			spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(data))
			if err != nil {
				if kernel == kernels[0] {
					fmt.Fprintf(out, "%s\t-\tunread\t%v\n", filepath.Base(object), err)
				}
				continue
			}
			names := make([]string, 0, len(spec.Programs))
			for name := range spec.Programs {
				names = append(names, name)
			}
			sort.Strings(names)
			for _, name := range names {
				pair := fmt.Sprintf("%s\t%s\t%s", filepath.Base(object), filepath.Base(kernel), name)
				program(out, pair, spec.Programs[name], target)
			}
		}
	}
}

// What `applyRelocations` of linker.go does with one target, but it goes on after a record that fails.
func program(out *bufio.Writer, pair string, prog *ebpf.ProgramSpec, target *btf.Spec) {
	insns := make(asm.Instructions, len(prog.Instructions))
	copy(insns, prog.Instructions)
	var relos []*btf.CORERelocation
	var at []*asm.Instruction
	var places []string
	function, start := "", uint64(0)
	iter := insns.Iterate()
	for iter.Next() {
		if symbol := iter.Ins.Symbol(); symbol != "" {
			function, start = symbol, uint64(iter.Offset)
		}
		if relo := btf.CORERelocationMetadata(iter.Ins); relo != nil {
			relos = append(relos, relo)
			at = append(at, iter.Ins)
			places = append(places, fmt.Sprintf("%s\t%d", function, (uint64(iter.Offset)-start)*8))
		}
	}
	if len(relos) == 0 {
		return
	}
	var b btf.Builder
	fixups, err := btf.CORERelocate(relos, []*btf.Spec{target}, prog.ByteOrder, b.Add)
	if err != nil {
		fmt.Fprintf(out, "%s\terror\t%v\n", pair, err)
		return
	}
	for i, fixup := range fixups {
		err := fixup.Apply(at[i])
		text := ""
		if err != nil {
			text = "error\t" + err.Error()
		} else {
			var buf bytes.Buffer
			// Source comments and symbols are no part of the bytes.
			if err := (asm.Instructions{*at[i]}).Marshal(&buf, prog.ByteOrder); err != nil {
				text = "error\t" + err.Error()
			} else {
				text = hex.EncodeToString(buf.Bytes())
			}
		}
		fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\n", pair, places[i], relos[i], fixup.String(), text)
	}
}
