// Command apply patches the functions in an object's file for a kernel, with the rows of
// `btfleet resolve --format patch` from stdin: apply my.bpf.o KERNEL < patches.jsonl > my.patched.o
// Its CO-RE records are still in the file: whoever loads it must not apply them again.
package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log"
	"os"

	"btfleet/patch"
)

type row struct {
	T          string       `json:"t"`
	SHA256     string       `json:"object_sha256"`
	ByteOrder  string       `json:"byte_order"`
	FileOffset int          `json:"file_offset"`
	Insns      int          `json:"insns"`
	Kernels    []string     `json:"kernels"`
	Edits      []patch.Edit `json:"edits"`
}

func main() {
	if len(os.Args) != 3 {
		log.Fatal("apply OBJECT KERNEL < ROWS > PATCHED")
	}
	code, err := os.ReadFile(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	digest := sha256.Sum256(code)
	for rows := json.NewDecoder(os.Stdin); ; {
		// Other rows have numbers of kernels under the same name.
		var raw json.RawMessage
		if err := rows.Decode(&raw); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			log.Fatal(err)
		}
		var row row
		err := json.Unmarshal(raw, &row)
		isMeant := false
		for _, kernel := range row.Kernels {
			isMeant = isMeant || kernel == os.Args[2]
		}
		if !isMeant || row.T != "patch" || row.SHA256 != hex.EncodeToString(digest[:]) {
			continue
		}
		end := row.FileOffset + row.Insns*8
		if err != nil || row.FileOffset < 0 || row.FileOffset > end || end > len(code) {
			log.Fatal("a row does not fit the object")
		}
		var order binary.ByteOrder = binary.LittleEndian
		if row.ByteOrder == "big" {
			order = binary.BigEndian
		}
		if err := patch.Apply(code[row.FileOffset:end], order, row.Edits); err != nil {
			log.Fatal(err)
		}
	}
	if _, err := os.Stdout.Write(code); err != nil {
		log.Fatal(err)
	}
}
