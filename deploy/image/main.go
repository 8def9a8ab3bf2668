// Command image makes an image of one of Reeve's programs, in an OCI archive
// that skopeo, crane, docker load, podman load and ctr images import take:
// reeve (the hub, and the tool), reeve-agent, or reeve-scanner, which ephemeral
// containers and sidecars run. An image has that one static program; the first
// two also have the certificate authorities that public services are verified
// with.
//
//	go run ./deploy/image -program reeve-agent -o agent.tar -name registry.example/reeve-agent:1 -arch amd64,arm64
//
// The same source makes the same bytes.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"reeve.dev/reeve/internal/release"
)

func main() {
	out := flag.String("o", "reeve-scanner.tar", "`file` to write")
	archs := flag.String("arch", "amd64", "`architectures`, with commas between them")
	binary := flag.String("binary", "", "`file` of a static program that was built for the one architecture; built anew without it")
	var img release.Image
	flag.StringVar(&img.Name, "name", "reeve-scanner:dev", "`reference` of the image")
	flag.StringVar(&img.Program, "program", "reeve-scanner", "`program` of the image: reeve, reeve-agent or reeve-scanner")
	flag.StringVar(&img.Version, "version", "", "`version` that the program says of itself")
	flag.IntVar(&img.Level, "level", 0, "gzip's `level`, 1 to 9; 0 is the fastest")
	flag.Parse()
	if err := run(img, *out, *binary, strings.Split(*archs, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(2)
	}
}

func run(img release.Image, out, binary string, archs []string) error {
	if binary != "" {
		img.Binaries = []release.Binary{{Arch: archs[0], File: binary}}
		return img.Write(out)
	}
	dir, err := os.MkdirTemp("", "reeve-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, arch := range archs {
		file := filepath.Join(dir, arch)
		if err := (release.Build{Program: img.Program, OS: "linux", Arch: arch, Version: img.Version}).Make(context.Background(), file); err != nil {
			return err
		}
		img.Binaries = append(img.Binaries, release.Binary{Arch: arch, File: file})
	}
	return img.Write(out)
}
