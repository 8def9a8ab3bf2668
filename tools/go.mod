module reeve.dev/reeve/tools

go 1.26.0
