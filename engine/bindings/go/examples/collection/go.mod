module btfleet/examples/collection

go 1.24.0

require (
	btfleet v0.0.0
	github.com/cilium/ebpf v0.20.0
)

replace btfleet => ../../btfleet
