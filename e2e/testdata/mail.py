"""Reads and submits with Python's own libraries, as scripts do: both offer ALPN
when their SSL context does, so one port serves both.

Arguments: port, CA file, address, password, key that is greeted with PREAUTH,
key that is not (both PEM files)."""

import imaplib
import smtplib
import ssl
import sys
import time

port, ca, address, password, key, quiet_key = sys.argv[1:]


def context(protocol, pem=None):
    c = ssl.create_default_context(cafile=ca)
    c.set_alpn_protocols([protocol])
    if pem:
        c.load_cert_chain(pem)
    return c


def submit(subject, pem=None, login=lambda s: None):
    with smtplib.SMTP_SSL("localhost", port, context=context("smtp", pem)) as s:
        login(s)
        s.sendmail(address, [address], f"From: {address}\r\nSubject: {subject}\r\n\r\nHello.\r\n")


def read(state, pem=None, login=lambda i: None):
    with imaplib.IMAP4_SSL("localhost", port, ssl_context=context("imap", pem)) as i:
        assert i.state == state, i.state
        login(i)
        for attempt in range(100):  # behind the gateway, mail takes its time
            if i.select() == ("OK", [b"4"]):
                break
            time.sleep(0.1)
        else:
            assert False, i.select()
        status, found = i.uid("SEARCH", "SUBJECT", '"by key"')
        assert len(found[0].split()) == 1, found


def external(initial):
    return lambda s: s.auth("EXTERNAL", lambda challenge=None: "", initial_response_ok=initial)


submit("by key", key)
submit("by EXTERNAL", key, external(True))  # sends "AUTH EXTERNAL " with nothing after it
submit("by EXTERNAL, when asked", quiet_key, external(False))
submit("by password", None, lambda s: s.login(address, password))
read("AUTH", key)
read("NONAUTH", quiet_key, lambda i: i.authenticate("EXTERNAL", lambda challenge: b""))
read("NONAUTH", None, lambda i: i.login(address, password))
