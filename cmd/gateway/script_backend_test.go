package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"

	"posthorn/admin"
)

// imapLogin connects to an address, logs in with a user name and a password,
// logs out, and prints what it hears.
func imapLogin() {
	c, err := tls.Dial("tcp", os.Args[1], &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"imap"}})
	if err != nil {
		fmt.Println(err)
		os.Exit(exitError)
	}
	fmt.Fprintf(c, "a LOGIN %q %q\r\nb LOGOUT\r\n", os.Args[2], os.Args[3])
	for lines := bufio.NewScanner(c); lines.Scan(); {
		fmt.Println(lines.Text())
	}
}

// mailserverCmd starts an IMAP server, sets MAIL to its address, and puts that
// into a file in place of the word MAIL. It takes every password but "guess",
// and that of the master user gateway.
func mailserverCmd(ts *testscript.TestScript, _ bool, args []string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	var sessions sync.WaitGroup
	sessions.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			sessions.Go(func() { serveMail(c) })
		}
	})
	ts.Defer(func() {
		ln.Close()
		sessions.Wait()
	})
	ts.Setenv("MAIL", ln.Addr().String())
	file := ts.MkAbs(args[0])
	text := strings.ReplaceAll(ts.ReadFile(args[0]), "MAIL", ln.Addr().String())
	ts.Check(os.WriteFile(file, []byte(text), 0o600))
}

func serveMail(c net.Conn) {
	defer c.Close()
	const capabilities = "CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN"
	fmt.Fprintf(c, "* OK [%s] ready\r\n", capabilities)
	for lines := bufio.NewScanner(c); lines.Scan(); {
		words := strings.Fields(lines.Text())
		answer := "OK done"
		switch strings.ToUpper(words[1]) {
		case "CAPABILITY":
			fmt.Fprintf(c, "* %s\r\n", capabilities)
		case "LOGOUT":
			fmt.Fprintf(c, "* BYE\r\n%s OK done\r\n", words[0])
			return
		case "AUTHENTICATE":
			answer = "NO [AUTHENTICATIONFAILED] no"
			if b, err := base64.StdEncoding.DecodeString(words[3]); err == nil && mayEnter(bytes.Split(b, []byte{0})) {
				answer = "OK [CAPABILITY IMAP4rev1 XBEHIND] done"
			}
		}
		fmt.Fprintf(c, "%s %s\r\n", words[0], answer)
	}
}

func mayEnter(plain [][]byte) bool {
	if len(plain) != 3 {
		return false
	}
	user, password := string(plain[1]), string(plain[2])
	return user == "gateway" && password == "master's secret" || user != "gateway" && len(plain[0]) == 0 && password != "guess"
}

// backendsCmd waits until so many of the backends' addresses are up.
func backendsCmd(ts *testscript.TestScript, _ bool, args []string) {
	cl := admin.NewClient(ts.MkAbs(args[0]))
	defer cl.Close()
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	wait(ts, args[1]+" backends", func() bool {
		st, err := cl.Status(context.Background())
		return err == nil && st.Backends.Up == want
	})
}
