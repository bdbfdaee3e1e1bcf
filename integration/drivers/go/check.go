// What both Go programs share: values and the running of checks.
package main

import (
	"fmt"
	"os"
	"reflect"
	"strings"
)

const (
	clients = 8
	rounds  = 5
	oddText = "Zażółć 日本語 🐘 'single' \"double\" \\back\\ %s $1 :a ?\n\ttab"
)

var table = os.Getenv("DRIVER_TABLE")

// No two neighbours are alike, so that a part that is lost or sent twice shows.
func longText() string {
	var text strings.Builder
	for n := 0; n < (1<<20)/8; n++ {
		fmt.Fprintf(&text, "%06dü", n)
	}
	return text.String()
}

func longBytes() []byte {
	bytes := make([]byte, 1<<20)
	for n := range bytes {
		bytes[n] = byte(n * 7)
	}
	return bytes
}

func allBytes() []byte {
	bytes := make([]byte, 256)
	for n := range bytes {
		bytes[n] = byte(n)
	}
	return bytes
}

// A check ends at its first panic: must for what may not fail, same for what has to be equal.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func same(found, expected interface{}) {
	if !reflect.DeepEqual(found, expected) {
		panic(fmt.Sprintf("expected %.200s, found %.200s", fmt.Sprintf("%#v", expected), fmt.Sprintf("%#v", found)))
	}
}

type checks map[string]func()

func run(version string, all checks, absent map[string]string) {
	fmt.Println("version", version)
	for _, name := range strings.Split(os.Getenv("DRIVER_CHECKS"), ",") {
		one(name, all[name], absent[name])
	}
}

func one(name string, check func(), why string) {
	defer func() {
		if problem := recover(); problem != nil {
			fmt.Printf("failed %s: %s\n", name, strings.Join(strings.Fields(fmt.Sprint(problem)), " "))
		}
	}()
	if check == nil {
		if why == "" {
			why = "not in this driver"
		}
		fmt.Printf("absent %s: %s\n", name, why)
		return
	}
	check()
	fmt.Println("ok", name)
}

// Runs work for each client at once; the first problem is this goroutine's.
func together(work func(n int)) {
	problems := make(chan interface{}, clients)
	for n := 0; n < clients; n++ {
		go func(n int) {
			defer func() { problems <- recover() }()
			work(n)
		}(n)
	}
	for n := 0; n < clients; n++ {
		if problem := <-problems; problem != nil {
			defer panic(problem)
		}
	}
}
