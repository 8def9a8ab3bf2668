package public

import (
	"errors"
	"net/netip"
	"testing"
)

func TestIs(t *testing.T) {
	for addr, want := range map[string]bool{
		"93.184.216.34": true, "2606:2800:220:1::1": true,
		"127.0.0.1": false, "10.0.0.1": false, "172.16.3.4": false, "192.168.1.1": false, "169.254.169.254": false,
		"100.100.100.200": false, "0.0.0.0": false, "255.255.255.255": false, "224.0.0.1": false, "198.18.0.1": false, "168.63.129.16": false,
		"::1": false, "::": false, "fe80::1%eth0": false, "fd00:ec2::254": false, "ff02::1": false,
		"::ffff:10.0.0.1": false, "64:ff9b::a00:1": false, "2002:a00:1::": false, "2001::1": false, "::a00:1": false,
	} {
		if got := Is(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
}

func TestControl(t *testing.T) {
	for address, want := range map[string]error{"93.184.216.34:443": nil, "[::1]:443": ErrPrivate, "169.254.169.254:80": ErrPrivate, "a name:1": ErrPrivate} {
		if err := Control("tcp", address, nil); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", address, err, want)
		}
	}
}
