package tunnel_test

import (
	"io"
	"net/http"
	"sync"
	"testing"

	"reeve.dev/reeve/tunnel"
)

func BenchmarkSession_throughput(b *testing.B) {
	for _, carrier := range tunnel.DefaultCarriers {
		b.Run(string(carrier), func(b *testing.B) {
			h := newHub(b, tunnel.Config{})
			agent, far := link(b, h, carrier)
			block := make([]byte, 64<<10)
			go tunnel.Serve(b.Context(), agent, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				for range 256 {
					w.Write(block)
				}
			}))
			tr := tunnel.Transport(far)
			defer tr.CloseIdleConnections()
			c := &http.Client{Transport: tr}
			b.SetBytes(8 * 16 << 20)
			for b.Loop() {
				var wg sync.WaitGroup
				for range 8 {
					wg.Go(func() {
						resp, err := c.Get("http://x/")
						if err != nil {
							b.Error(err)
							return
						}
						io.Copy(io.Discard, resp.Body)
						resp.Body.Close()
					})
				}
				wg.Wait()
			}
		})
	}
}
