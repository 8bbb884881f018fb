package kamailio

import (
	"fmt"
	"net"
	"strings"
	"time"
)

// options asks whether the proxy is there.
func options(address string) error {
	conn, err := net.Dial("udp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	local := conn.LocalAddr()
	request := strings.Join([]string{
		"OPTIONS sip:" + address + " SIP/2.0",
		fmt.Sprintf("Via: SIP/2.0/UDP %s;branch=z9hG4bK%d", local, time.Now().UnixNano()),
		"Max-Forwards: 70",
		"From: <sip:test@127.0.0.1>;tag=1",
		"To: <sip:" + address + ">",
		fmt.Sprintf("Call-ID: %d", time.Now().UnixNano()),
		"CSeq: 1 OPTIONS",
		"Content-Length: 0", "", "",
	}, "\r\n")
	if _, err := conn.Write([]byte(request)); err != nil {
		return err
	}
	if err := conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
		return err
	}
	buffer := make([]byte, 2048)
	n, err := conn.Read(buffer)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(string(buffer[:n]), "SIP/2.0 200") {
		return errSilent
	}
	return nil
}
