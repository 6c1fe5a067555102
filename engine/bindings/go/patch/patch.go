// Package patch applies what `btfleet resolve --format patch` lists to the instructions of a BPF program.
// docs/output.md describes the rows.
package patch

import (
	"encoding/binary"
	"fmt"
	"strconv"
)

// Edit is one field of one instruction that gets a value.
type Edit struct {
	Insn  int    `json:"insn"`
	Field string `json:"field"`
	Value string `json:"value"`
}

// Apply changes insns, whole slots of 8 bytes of one function, in place.
func Apply(insns []byte, order binary.ByteOrder, edits []Edit) error {
	const ldimm64, call = 0x18, 0x85
	bits := map[string]int{"code": 8, "off": 16, "imm": 32, "imm64": 64, "poison": 32}
	for _, edit := range edits {
		value, err := strconv.ParseUint(edit.Value, 10, bits[edit.Field])
		if err != nil || bits[edit.Field] == 0 {
			return fmt.Errorf("%s = %s: no such field, or the value does not fit", edit.Field, edit.Value)
		}
		slots := len(insns) / 8
		if edit.Insn < 0 || edit.Insn >= slots {
			return fmt.Errorf("there is no instruction %d", edit.Insn)
		}
		insn := insns[edit.Insn*8:]
		isWide := edit.Field == "imm64" || edit.Field == "poison" && insn[0] == ldimm64
		if isWide && edit.Insn+1 >= slots {
			return fmt.Errorf("instruction %d is cut", edit.Insn)
		}
		switch edit.Field {
		case "code":
			insn[0] = byte(value)
		case "off":
			order.PutUint16(insn[2:], uint16(value))
		case "imm":
			order.PutUint32(insn[4:], uint32(value))
		case "imm64":
			order.PutUint32(insn[4:], uint32(value))
			order.PutUint32(insn[12:], uint32(value>>32))
		case "poison":
			order.PutUint64(insn, 0)
			insn[0] = call
			order.PutUint32(insn[4:], uint32(value))
			if isWide {
				copy(insn[8:16], insn[:8])
			}
		}
	}
	return nil
}
