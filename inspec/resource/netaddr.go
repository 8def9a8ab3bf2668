package resource

import (
	"encoding/hex"
	"net/netip"
	"slices"
)

// procAddress reads an address of /proc/net: words of four bytes, each in the
// order of a little-endian machine.
func procAddress(text string) (string, bool) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != 4 && len(b) != 16 {
		return "", false
	}
	for i := 0; i < len(b); i += 4 {
		slices.Reverse(b[i : i+4])
	}
	addr, _ := netip.AddrFromSlice(b)
	return addr.String(), true
}
