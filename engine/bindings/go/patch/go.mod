module btfleet/patch

go 1.19
