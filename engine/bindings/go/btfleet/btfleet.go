// Package btfleet resolves the CO-RE relocations of many BPF objects against the BTF of many kernels, from files and as
// libbpf does, bit for bit.
//
// It is the C library behind cgo, linked statically: install that with engine/capi/install. Where it is not in a place
// that the C compiler looks at, name it:
//
//	CGO_CFLAGS=-I$PREFIX/include CGO_LDFLAGS=-L$PREFIX/lib go build
package btfleet

// #cgo LDFLAGS: -l:libbtfleet.a -lgcc_s -lutil -lrt -lpthread -lm -ldl
// #include <btfleet.h>
// #include <stdlib.h>
import "C"

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"unsafe"
)

// Input is an object, a kernel or a module: bytes under a name, or a file.
type Input struct {
	// Name is what it is called, or the path of the file if there is no Data.
	Name string
	// Data is the BPF object, or the BTF: raw, in an ELF file, either compressed with zstd, or a pack of kernels.
	Data []byte
	// Modules are those of a kernel.
	Modules []Input
}

// Options is what bears on the answers beside the inputs. The zero value is what most want.
type Options struct {
	// Loader is whose answers are wanted: "libbpf", "kernel", "kernel:RELEASE", "aya" or "ebpf-go"; "" is "libbpf".
	Loader string
	// AllModules: all modules of a kernel are loaded, in their order, and not each by itself.
	AllModules bool
	// RespectAutoload leaves programs in sections with a leading '?' as they are.
	RespectAutoload bool
	// Kconfig is the text of the configuration of all kernels; without it, what lies beside the file of each counts.
	Kconfig []byte
	// Threads is their number; 0 takes one per core.
	Threads int
}

// Error is why the library did not do what it was to do.
type Error struct {
	// Status is a BTFLEET_STATUS_ of the C interface.
	Status int
	Text   string
}

func (e *Error) Error() string { return "btfleet: " + e.Text }

// ErrClosed is the error of a run that was closed.
var ErrClosed = errors.New("btfleet: the run is closed")

// Run is objects and kernels, and the answers. It does not change, and may be used by many goroutines at once.
type Run struct {
	mutex sync.RWMutex
	run   *C.btfleet_run

	// Objects and Kernels are the names of those that are judged. Their numbers are what methods take and give.
	Objects, Kernels []string
	// Defects are the inputs that cannot be used, and remarks on others.
	Defects []Defect
	// Models says whose answers they are.
	Models string
}

// Defect is an input that cannot be used, or a remark on one that can.
type Defect struct {
	Path, Code, Message string
	// Offset is where in it, in bytes; -1 if that cannot be said.
	Offset int64
	// IsRemark: the input is judged all the same.
	IsRemark bool
}

// Refusal is why an object and a kernel cannot be judged together.
type Refusal struct {
	Code, Message string
}

// call runs f on one thread, and makes an error of the btfleet_status that it gives: the library keeps texts by thread.
func call(f func() uint32) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if status := f(); status != C.BTFLEET_STATUS_OK {
		return &Error{int(status), C.GoString(C.btfleet_last_error())}
	}
	return nil
}

// bytesOf is where C finds the bytes while a call lasts.
func bytesOf(data []byte) (*C.uint8_t, C.size_t) {
	if len(data) == 0 {
		return nil, 0
	}
	return (*C.uint8_t)(unsafe.Pointer(&data[0])), C.size_t(len(data))
}

func goBytes(data *C.uint8_t, len C.size_t) []byte {
	if data == nil {
		return nil
	}
	// C.GoBytes takes an int, which is too small for some files on some machines.
	return append([]byte(nil), unsafe.Slice((*byte)(unsafe.Pointer(data)), int(len))...)
}

func add(
	input Input,
	file func(*C.char) uint32,
	data func(*C.char, *C.uint8_t, C.size_t) uint32,
) error {
	name := C.CString(input.Name)
	defer C.free(unsafe.Pointer(name))
	return call(func() uint32 {
		if input.Data == nil {
			return file(name)
		}
		bytes, len := bytesOf(input.Data)
		return data(name, bytes, len)
	})
}

// New reads and parses the inputs, and answers all questions of the objects for all kernels. Inputs that cannot be used
// are in Defects. Options may be nil.
func New(objects, kernels []Input, options *Options) (*Run, error) {
	inputs := C.btfleet_inputs_new()
	defer C.btfleet_inputs_free(inputs)
	for _, object := range objects {
		err := add(object,
			func(path *C.char) uint32 { return C.btfleet_inputs_add_object_file(inputs, path) },
			func(name *C.char, data *C.uint8_t, len C.size_t) uint32 {
				return C.btfleet_inputs_add_object(inputs, name, data, len)
			})
		if err != nil {
			return nil, err
		}
	}
	for _, kernel := range kernels {
		err := add(kernel,
			func(path *C.char) uint32 { return C.btfleet_inputs_add_kernel_file(inputs, path) },
			func(name *C.char, data *C.uint8_t, len C.size_t) uint32 {
				return C.btfleet_inputs_add_kernel(inputs, name, data, len)
			})
		if err != nil {
			return nil, err
		}
		for _, module := range kernel.Modules {
			err := add(module,
				func(path *C.char) uint32 { return C.btfleet_inputs_add_module_file(inputs, path) },
				func(name *C.char, data *C.uint8_t, len C.size_t) uint32 {
					return C.btfleet_inputs_add_module(inputs, name, data, len)
				})
			if err != nil {
				return nil, err
			}
		}
	}
	if options == nil {
		options = &Options{}
	}
	if options.Threads < 0 {
		return nil, fmt.Errorf("btfleet: %d threads", options.Threads)
	}
	// In C's memory: it points to more of that.
	given := (*C.btfleet_options)(C.calloc(1, C.sizeof_btfleet_options))
	defer C.free(unsafe.Pointer(given))
	given.size = C.sizeof_btfleet_options
	given.threads = C.size_t(options.Threads)
	if options.Loader != "" {
		loader := C.CString(options.Loader)
		defer C.free(unsafe.Pointer(loader))
		given.loader = loader
	}
	if options.AllModules {
		given.modules = C.BTFLEET_MODULES_ALL
	}
	if options.RespectAutoload {
		given.respect_autoload = 1
	}
	if len(options.Kconfig) > 0 {
		kconfig := C.CBytes(options.Kconfig)
		defer C.free(kconfig)
		given.kconfig, given.kconfig_len = (*C.uint8_t)(kconfig), C.size_t(len(options.Kconfig))
	}
	var made *C.btfleet_run
	if err := call(func() uint32 { return C.btfleet_run_new(inputs, given, &made) }); err != nil {
		return nil, err
	}
	run := &Run{run: made}
	runtime.SetFinalizer(run, (*Run).Close)
	run.Models = C.GoString(C.btfleet_run_models(run.run))
	for i := C.size_t(0); i < C.btfleet_run_object_count(run.run); i++ {
		run.Objects = append(run.Objects, C.GoString(C.btfleet_run_object_name(run.run, i)))
	}
	for i := C.size_t(0); i < C.btfleet_run_kernel_count(run.run); i++ {
		run.Kernels = append(run.Kernels, C.GoString(C.btfleet_run_kernel_name(run.run, i)))
	}
	for i := C.size_t(0); i < C.btfleet_run_defect_count(run.run); i++ {
		defect := C.btfleet_run_defect(run.run, i)
		run.Defects = append(run.Defects, Defect{
			Path:     C.GoString(defect.path),
			Code:     C.GoString(defect.code),
			Message:  C.GoString(defect.message),
			Offset:   int64(defect.offset),
			IsRemark: defect.is_remark != 0,
		})
	}
	return run, nil
}

// Close frees the memory of the run at once, and not when the garbage collector gets to it. What it gave stays.
func (r *Run) Close() {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	runtime.SetFinalizer(r, nil)
	C.btfleet_run_free(r.run)
	r.run = nil
}

// ask runs f unless the run is closed, and keeps it open meanwhile.
func (r *Run) ask(object int, f func(object C.size_t) uint32) error {
	if r.run == nil {
		return ErrClosed
	}
	if object < 0 {
		return fmt.Errorf("btfleet: there is no object number %d", object)
	}
	return call(func() uint32 { return f(C.size_t(object)) })
}

// checkPacks is the error if a pack turned out to be damaged while rows were read: they cannot be trusted then.
func (r *Run) checkPacks() error {
	return call(func() uint32 { return C.btfleet_run_check_packs(r.run) })
}

// Refusal says why an object cannot be judged on a kernel; nil if it can.
func (r *Run) Refusal(object, kernel int) *Refusal {
	r.mutex.RLock()
	defer r.mutex.RUnlock()
	if r.run == nil || object < 0 || kernel < 0 {
		return nil
	}
	refusal := C.btfleet_run_refusal(r.run, C.size_t(object), C.size_t(kernel))
	if refusal == nil {
		return nil
	}
	return &Refusal{C.GoString(refusal.code), C.GoString(refusal.message)}
}

// Relocate makes of one BPF object, for a kernel with this BTF, the object that libbpf would load there: with every CO-RE
// relocation applied, so that any loader can load it.
func Relocate(object, btf []byte) ([]byte, error) {
	run, err := New([]Input{{Name: "object", Data: orEmpty(object)}}, []Input{{Name: "kernel", Data: orEmpty(btf)}},
		&Options{Threads: 1})
	if err != nil {
		return nil, err
	}
	defer run.Close()
	for _, defect := range run.Defects {
		if !defect.IsRemark {
			return nil, fmt.Errorf("btfleet: %s: %s", defect.Path, defect.Message)
		}
	}
	if refusal := run.Refusal(0, 0); refusal != nil {
		return nil, errors.New("btfleet: " + refusal.Message)
	}
	relocations, err := run.Relocate(0)
	if err != nil {
		return nil, err
	}
	if len(relocations) != 1 {
		return nil, fmt.Errorf("btfleet: one object for one kernel, not %d", len(relocations))
	}
	if obstacle := relocations[0].Obstacle; obstacle != nil {
		return nil, errors.New("btfleet: " + obstacle.Message)
	}
	return relocations[0].File, nil
}

// orEmpty: bytes that are nil are a file for an Input, and here they are none.
func orEmpty(data []byte) []byte {
	if data == nil {
		return []byte{}
	}
	return data
}
