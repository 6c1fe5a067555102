package btfleet

// #include <btfleet.h>
import "C"

import "unsafe"

// Verdict is that on one program on one kernel.
type Verdict struct {
	Program, Section string
	// Autoload: libbpf loads it unasked.
	Autoload bool
	// Rank: the higher, the worse: 0 ok, 1 ok-drift, 2 conditional, 3 unknown, 4 fail-attach, 5 fail-symbol, 6 fail-reloc.
	Rank int
	// Verdict is the same as text.
	Verdict string
	// Confidence is "proved" or "bounded".
	Confidence string
	// Judged is what was judged.
	Judged []string
	// AbortedBy is the record that ends the load of the object, if one does.
	AbortedBy *Abort
	// Assumptions are what the verdict takes for granted.
	Assumptions []string
	// Findings are everything that bears on it.
	Findings []Finding
}

// Abort is the record that ends the load of an object.
type Abort struct {
	// Program is "" if the record is inside none.
	Section, Program string
	// InsnOff is in bytes within the section.
	InsnOff uint32
	Code    string
	// Fatal is the loader's error number, negative.
	Fatal int
}

// Finding is something that bears on a verdict.
type Finding struct {
	Code, Effect, Message string
	// InsnOff is in bytes within the section of the record that it is about; -1 if it is about none.
	InsnOff int64
	// Root and Path are the record's.
	Root, Path string
	// Subject is what it is about, if that is no record.
	Subject string
	File    string
	// Line is -1 if it is not known.
	Line int64
}

// Record is what an object's file says of one CO-RE record.
type Record struct {
	// Program is "" if the instruction is inside none.
	Section, Program string
	// InsnOff is in bytes within the section.
	InsnOff uint32
	// RawKind is enum bpf_core_relo_kind, and Kind its name.
	RawKind            uint32
	Kind               string
	TypeID             uint32
	Root, Access, Path string
	// Insn is the instruction as it is in the file.
	Insn []byte
	File string
	// Line is 0 if it is not known.
	Line uint32
}

// Answer is what becomes of one record on one kernel.
type Answer struct {
	Code, Reason string
	// Fatal is the loader's error number, negative, if the load ends; else 0.
	Fatal int
	// Orig and New are nil where there is no such value.
	Orig, New            *uint64
	Unresolved, Poisoned bool
	Validate             bool
	OrigSize, NewSize    uint32
	ResizeFails          bool
	Target               string
	// RootID is the id of the first candidate that matches, in the kernel's BTF, or 0.
	RootID uint32
	// TargetModule is the module that it is from; "" is vmlinux.
	TargetModule string
	// Insn is the instruction after relocation.
	Insn []byte
	// ByModule has, where modules disagree, the answer with each of them alone.
	ByModule map[string]Answer
}

// Records are those of one object, and what becomes of them.
type Records struct {
	Records []Record
	// Answers are by kernel, then by record; nil for a kernel that the object cannot be judged on.
	Answers [][]Answer
}

// Relocation is the file of one object for kernels that need the same.
type Relocation struct {
	// Kernels are their numbers.
	Kernels []int
	// File is the object's; nil if there is an Obstacle.
	File     []byte
	Obstacle *Obstacle
	// Left are records because of which programs are left as they were.
	Left []Obstacle
	// Programs are linked with all functions that they call.
	Programs []Program
}

// Obstacle is why an object has no file for some kernels, or a program is left as it was.
type Obstacle struct {
	Code, Section, Program, Message string
	// InsnOff is in bytes within the section, or -1.
	InsnOff int64
	// Fatal is libbpf's error number, negative, if it gives up; else 0.
	Fatal int
}

// Program is one after relocation.
type Program struct {
	Name, Section string
	// Left: it is as it was, with its records to apply.
	Left bool
	// Insns are in the byte order of the object. Maps and the kernel's symbols are for the loader to fill in.
	Insns []byte
}

// maker makes Go values of the rows of one handle. Rows share what they say, and there are many of them: a piece of memory
// for each would cost more than all else.
type maker struct {
	// Texts by where they are: equal ones are mostly at the same place, and stay there as long as the handle.
	texts map[*C.char]string
	// What pointers to numbers point to, and instructions, from one end on.
	numbers []uint64
	bytes   []byte
}

func newMaker() *maker {
	return &maker{texts: make(map[*C.char]string)}
}

// room makes room for the numbers and instructions of so many rows.
func (m *maker) room(rows int) {
	m.numbers = make([]uint64, 0, 2*rows)
	m.bytes = make([]byte, 0, 8*rows)
}

func (m *maker) text(text *C.char) string {
	if text == nil {
		return ""
	}
	known, ok := m.texts[text]
	if !ok {
		known = C.GoString(text)
		m.texts[text] = known
	}
	return known
}

func (m *maker) list(list **C.char, count C.size_t) []string {
	if count == 0 {
		return nil
	}
	texts := make([]string, 0, int(count))
	for _, text := range unsafe.Slice(list, int(count)) {
		texts = append(texts, m.text(text))
	}
	return texts
}

func (m *maker) number(number C.uint64_t) *uint64 {
	// Where there is no room left, another piece of memory: what points into this one keeps it.
	if len(m.numbers) == cap(m.numbers) {
		m.numbers = make([]uint64, 0, 64)
	}
	m.numbers = append(m.numbers, uint64(number))
	return &m.numbers[len(m.numbers)-1]
}

func (m *maker) insn(data *C.uint8_t, length C.size_t) []byte {
	if data == nil {
		return nil
	}
	start := len(m.bytes)
	m.bytes = append(m.bytes, unsafe.Slice((*byte)(unsafe.Pointer(data)), int(length))...)
	// Whoever appends to it gets a copy.
	return m.bytes[start:len(m.bytes):len(m.bytes)]
}

// Check judges every program of an object on every kernel. Verdicts are by kernel, then by program; nil for a kernel that
// the object cannot be judged on. Kernels on which nothing differs share theirs.
func (r *Run) Check(object int) ([][]Verdict, error) {
	r.mutex.RLock()
	defer r.mutex.RUnlock()
	var of *C.btfleet_verdicts
	err := r.ask(object, func(object C.size_t) uint32 { return C.btfleet_run_check(r.run, object, &of) })
	if err != nil {
		return nil, err
	}
	defer C.btfleet_verdicts_free(of)
	all, m := make([][]Verdict, len(r.Kernels)), newMaker()
	made := make(map[*C.btfleet_verdict][]Verdict)
	for kernel := range all {
		first := C.btfleet_verdicts_get(of, C.size_t(kernel), 0)
		if first == nil {
			continue
		}
		if known, ok := made[first]; ok {
			all[kernel] = known
			continue
		}
		count := C.btfleet_verdicts_count(of, C.size_t(kernel))
		all[kernel] = make([]Verdict, 0, int(count))
		for i := C.size_t(0); i < count; i++ {
			row := C.btfleet_verdicts_get(of, C.size_t(kernel), i)
			all[kernel] = append(all[kernel], m.verdict(row))
		}
		made[first] = all[kernel]
	}
	return all, r.checkPacks()
}

func (m *maker) verdict(row *C.btfleet_verdict) Verdict {
	verdict := Verdict{
		Program:     m.text(row.program),
		Section:     m.text(row.section),
		Autoload:    row.autoload != 0,
		Rank:        int(row.rank),
		Verdict:     m.text(row.verdict),
		Confidence:  m.text(row.confidence),
		Judged:      m.list(row.judged, row.judged_count),
		Assumptions: m.list(row.assumptions, row.assumption_count),
	}
	if abort := row.aborted_by; abort != nil {
		verdict.AbortedBy = &Abort{
			Section: m.text(abort.section),
			Program: m.text(abort.program),
			InsnOff: uint32(abort.insn_off),
			Code:    m.text(abort.code),
			Fatal:   int(abort.fatal),
		}
	}
	if row.finding_count > 0 {
		verdict.Findings = make([]Finding, 0, int(row.finding_count))
	}
	for _, finding := range unsafe.Slice(row.findings, int(row.finding_count)) {
		verdict.Findings = append(verdict.Findings, Finding{
			Code:    m.text(finding.code),
			Effect:  m.text(finding.effect),
			Message: m.text(finding.message),
			InsnOff: int64(finding.insn_off),
			Root:    m.text(finding.root),
			Path:    m.text(finding.path),
			Subject: m.text(finding.subject),
			File:    m.text(finding.file),
			Line:    int64(finding.line),
		})
	}
	return verdict
}

// Resolve tells what becomes of every record of an object on every kernel.
func (r *Run) Resolve(object int) (*Records, error) {
	r.mutex.RLock()
	defer r.mutex.RUnlock()
	var of *C.btfleet_records
	err := r.ask(object, func(object C.size_t) uint32 { return C.btfleet_run_resolve(r.run, object, &of) })
	if err != nil {
		return nil, err
	}
	defer C.btfleet_records_free(of)
	count := C.btfleet_records_count(of)
	all, m := &Records{Answers: make([][]Answer, len(r.Kernels))}, newMaker()
	m.room(int(count))
	if count > 0 {
		all.Records = make([]Record, 0, int(count))
	}
	for i := C.size_t(0); i < count; i++ {
		row := C.btfleet_records_get(of, i)
		all.Records = append(all.Records, Record{
			Section: m.text(row.section),
			Program: m.text(row.program),
			InsnOff: uint32(row.insn_off),
			RawKind: uint32(row.raw_kind),
			Kind:    m.text(row.kind),
			TypeID:  uint32(row.type_id),
			Root:    m.text(row.root),
			Access:  m.text(row.access),
			Path:    m.text(row.path),
			Insn:    m.insn(row.insn, row.insn_len),
			File:    m.text(row.file),
			Line:    uint32(row.line),
		})
	}
	for kernel := range all.Answers {
		if count == 0 || C.btfleet_records_answer(of, C.size_t(kernel), 0) == nil {
			continue
		}
		m.room(int(count))
		all.Answers[kernel] = make([]Answer, 0, int(count))
		for i := C.size_t(0); i < count; i++ {
			if row := C.btfleet_records_answer(of, C.size_t(kernel), i); row != nil {
				all.Answers[kernel] = append(all.Answers[kernel], m.answer(row))
			}
		}
	}
	return all, r.checkPacks()
}

func (m *maker) answer(row *C.btfleet_answer) Answer {
	all := Answer{
		Code:         m.text(row.code),
		Reason:       m.text(row.reason),
		Fatal:        int(row.fatal),
		Unresolved:   row.unresolved != 0,
		Poisoned:     row.poisoned != 0,
		Validate:     row.validate != 0,
		OrigSize:     uint32(row.orig_sz),
		NewSize:      uint32(row.new_sz),
		ResizeFails:  row.resize_fails != 0,
		Target:       m.text(row.target),
		RootID:       uint32(row.root_id),
		TargetModule: m.text(row.target_module),
		Insn:         m.insn(row.insn, row.insn_len),
	}
	if row.has_orig != 0 {
		all.Orig = m.number(row.orig)
	}
	if row.has_new != 0 {
		all.New = m.number(row.new_value)
	}
	if row.by_module_count == 0 {
		return all
	}
	all.ByModule = make(map[string]Answer)
	for _, of := range unsafe.Slice(row.by_module, int(row.by_module_count)) {
		all.ByModule[m.text(of.module)] = m.answer(of.answer)
	}
	return all
}

// Relocate makes the files of an object that libbpf would load, one for all kernels that need the same. Kernels that the
// object cannot be judged on are in none.
func (r *Run) Relocate(object int) ([]Relocation, error) {
	r.mutex.RLock()
	defer r.mutex.RUnlock()
	var of *C.btfleet_relocations
	err := r.ask(object, func(object C.size_t) uint32 { return C.btfleet_run_relocate(r.run, object, &of) })
	if err != nil {
		return nil, err
	}
	defer C.btfleet_relocations_free(of)
	all := make([]Relocation, C.btfleet_relocations_class_count(of))
	for kernel := range r.Kernels {
		if class := C.btfleet_relocations_class_of(of, C.size_t(kernel)); class >= 0 {
			all[class].Kernels = append(all[class].Kernels, kernel)
		}
	}
	for number := range all {
		class, it := C.size_t(number), &all[number]
		if obstacle := C.btfleet_relocations_obstacle(of, class); obstacle != nil {
			row := obstacleOf(obstacle)
			it.Obstacle = &row
			continue
		}
		var len C.size_t
		file := C.btfleet_relocations_file(of, class, &len)
		it.File = goBytes(file, len)
		for i := C.size_t(0); i < C.btfleet_relocations_left_count(of, class); i++ {
			it.Left = append(it.Left, obstacleOf(C.btfleet_relocations_left(of, class, i)))
		}
		for i := C.size_t(0); i < C.btfleet_relocations_program_count(of, class); i++ {
			program := C.btfleet_relocations_program(of, class, i)
			it.Programs = append(it.Programs, Program{
				Name:    C.GoString(program.name),
				Section: C.GoString(program.section),
				Left:    program.left != 0,
				Insns:   goBytes(program.insns, program.insns_len),
			})
		}
	}
	return all, r.checkPacks()
}

func obstacleOf(row *C.btfleet_obstacle) Obstacle {
	return Obstacle{
		Code:    C.GoString(row.code),
		Section: C.GoString(row.section),
		Program: C.GoString(row.program),
		Message: C.GoString(row.message),
		InsnOff: int64(row.insn_off),
		Fatal:   int(row.fatal),
	}
}
