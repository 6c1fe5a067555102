module btfleet/examples/overhead

go 1.19

require btfleet v0.0.0

replace btfleet => ../../btfleet
