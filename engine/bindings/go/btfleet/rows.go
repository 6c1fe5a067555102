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

func texts(list **C.char, count C.size_t) []string {
	var texts []string
	for _, text := range unsafe.Slice(list, int(count)) {
		texts = append(texts, C.GoString(text))
	}
	return texts
}

// Check judges every program of an object on every kernel. Verdicts are by kernel, then by program; nil for a kernel that
// the object cannot be judged on.
func (r *Run) Check(object int) ([][]Verdict, error) {
	r.mutex.RLock()
	defer r.mutex.RUnlock()
	var of *C.btfleet_verdicts
	err := r.ask(object, func(object C.size_t) uint32 { return C.btfleet_run_check(r.run, object, &of) })
	if err != nil {
		return nil, err
	}
	defer C.btfleet_verdicts_free(of)
	all := make([][]Verdict, len(r.Kernels))
	for kernel := range all {
		count := C.btfleet_verdicts_count(of, C.size_t(kernel))
		for i := C.size_t(0); i < count; i++ {
			all[kernel] = append(all[kernel], verdict(C.btfleet_verdicts_get(of, C.size_t(kernel), i)))
		}
	}
	return all, r.checkPacks()
}

func verdict(row *C.btfleet_verdict) Verdict {
	verdict := Verdict{
		Program:     C.GoString(row.program),
		Section:     C.GoString(row.section),
		Autoload:    row.autoload != 0,
		Rank:        int(row.rank),
		Verdict:     C.GoString(row.verdict),
		Confidence:  C.GoString(row.confidence),
		Judged:      texts(row.judged, row.judged_count),
		Assumptions: texts(row.assumptions, row.assumption_count),
	}
	if abort := row.aborted_by; abort != nil {
		verdict.AbortedBy = &Abort{
			Section: C.GoString(abort.section),
			Program: C.GoString(abort.program),
			InsnOff: uint32(abort.insn_off),
			Code:    C.GoString(abort.code),
			Fatal:   int(abort.fatal),
		}
	}
	for _, finding := range unsafe.Slice(row.findings, int(row.finding_count)) {
		verdict.Findings = append(verdict.Findings, Finding{
			Code:    C.GoString(finding.code),
			Effect:  C.GoString(finding.effect),
			Message: C.GoString(finding.message),
			InsnOff: int64(finding.insn_off),
			Root:    C.GoString(finding.root),
			Path:    C.GoString(finding.path),
			Subject: C.GoString(finding.subject),
			File:    C.GoString(finding.file),
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
	all := &Records{Answers: make([][]Answer, len(r.Kernels))}
	for i := C.size_t(0); i < count; i++ {
		row := C.btfleet_records_get(of, i)
		all.Records = append(all.Records, Record{
			Section: C.GoString(row.section),
			Program: C.GoString(row.program),
			InsnOff: uint32(row.insn_off),
			RawKind: uint32(row.raw_kind),
			Kind:    C.GoString(row.kind),
			TypeID:  uint32(row.type_id),
			Root:    C.GoString(row.root),
			Access:  C.GoString(row.access),
			Path:    C.GoString(row.path),
			Insn:    goBytes(row.insn, row.insn_len),
			File:    C.GoString(row.file),
			Line:    uint32(row.line),
		})
	}
	for kernel := range all.Answers {
		for i := C.size_t(0); i < count; i++ {
			if row := C.btfleet_records_answer(of, C.size_t(kernel), i); row != nil {
				all.Answers[kernel] = append(all.Answers[kernel], answer(row))
			}
		}
	}
	return all, r.checkPacks()
}

func answer(row *C.btfleet_answer) Answer {
	all := Answer{
		Code:         C.GoString(row.code),
		Reason:       C.GoString(row.reason),
		Fatal:        int(row.fatal),
		Unresolved:   row.unresolved != 0,
		Poisoned:     row.poisoned != 0,
		Validate:     row.validate != 0,
		OrigSize:     uint32(row.orig_sz),
		NewSize:      uint32(row.new_sz),
		ResizeFails:  row.resize_fails != 0,
		Target:       C.GoString(row.target),
		RootID:       uint32(row.root_id),
		TargetModule: C.GoString(row.target_module),
		Insn:         goBytes(row.insn, row.insn_len),
	}
	if row.has_orig != 0 {
		orig := uint64(row.orig)
		all.Orig = &orig
	}
	if row.has_new != 0 {
		value := uint64(row.new_value)
		all.New = &value
	}
	if row.by_module_count == 0 {
		return all
	}
	all.ByModule = make(map[string]Answer)
	for _, of := range unsafe.Slice(row.by_module, int(row.by_module_count)) {
		all.ByModule[C.GoString(of.module)] = answer(of.answer)
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
