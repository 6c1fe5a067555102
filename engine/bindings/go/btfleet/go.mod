module btfleet

go 1.19
