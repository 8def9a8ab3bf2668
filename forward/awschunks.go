package forward

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// A body in signed chunks, which AWS's clients send to S3 where TLS isn't
// there to keep it whole: see "Signature calculations for the Authorization
// header: Transferring payload in multiple chunks" and its page on trailing
// headers in the Amazon S3 API Reference. Each chunk's signature is made of
// the one before, the first of the request's:
//
//	HEX;chunk-signature=HEX CRLF data CRLF … 0;chunk-signature=HEX CRLF
//	[NAME:VALUE CRLF … x-amz-trailer-signature:HEX CRLF] CRLF
const (
	signedChunks        = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	signedChunksTrailer = signedChunks + "-TRAILER"
	plainChunksTrailer  = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
	unsignedPayload     = "UNSIGNED-PAYLOAD"
	decodedLength       = "X-Amz-Decoded-Content-Length"

	maxChunkLine  = 4 << 10
	maxChunkLines = 16       // of a trailer
	maxDecoded    = 50 << 40 // more than S3 takes
)

var errChunks = errors.New("the body's chunks aren't what their signatures are for")

// unsignChunks has r carry its body without the signatures of its chunks,
// which are checked as it is read. What its trailer says goes on.
func unsignChunks(r *http.Request, s awsSignature, key []byte) error {
	length, err := strconv.ParseInt(r.Header.Get(decodedLength), 10, 64)
	if err != nil || length < 0 || length > maxDecoded {
		return fmt.Errorf("%w: %s isn't the length of a body", ErrUnauthenticated, decodedLength)
	}
	trailer := r.Header.Get(amzContentHash) == signedChunksTrailer
	chunks := &chunkReader{
		in: bufio.NewReaderSize(r.Body, maxChunkLine), sum: sha256.New(), left: length, trailer: trailer,
		sign: func(kind, what string) []byte {
			return mac(key, strings.Join([]string{kind, s.at.Format(amzTime), s.scope.String(), what}, "\n"))
		},
		before: hex.EncodeToString(s.signature),
	}
	if trailer {
		r.Body = closing{&plainChunks{from: chunks}, r.Body}
		r.ContentLength = -1
		r.Header.Set(amzContentHash, plainChunksTrailer)
	} else {
		r.Body = closing{&whole{in: bufio.NewReader(chunks)}, r.Body}
		r.ContentLength = length
		r.Header.Set(amzContentHash, unsignedPayload)
		r.Header.Del(decodedLength)
		withoutChunked(r.Header)
	}
	r.Header.Del("Content-Length")
	return nil
}

// withoutChunked takes aws-chunked out of the content's codings.
func withoutChunked(h http.Header) {
	var rest []string
	for _, v := range h.Values("Content-Encoding") {
		for coding := range strings.SplitSeq(v, ",") {
			if coding = strings.TrimSpace(coding); coding != "" && coding != "aws-chunked" {
				rest = append(rest, coding)
			}
		}
	}
	h.Del("Content-Encoding")
	if rest != nil {
		h.Set("Content-Encoding", strings.Join(rest, ","))
	}
}

type closing struct {
	io.Reader
	io.Closer
}

// chunkReader reads what signed chunks hold. A chunk's data is given before
// its signature was checked; the end isn't, unless all was right.
type chunkReader struct {
	in      *bufio.Reader
	sum     hash.Hash // of the chunk
	sign    func(kind, what string) []byte
	before  string // signature of the chunk before
	trailer bool   // one is to come

	left  int64  // of the whole
	chunk int64  // left of the chunk
	said  string // its signature
	lines []string
	err   error
}

func (c *chunkReader) Read(p []byte) (int, error) {
	for c.err == nil && c.chunk == 0 {
		c.err = c.next()
	}
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.in.Read(p[:min(int64(len(p)), c.chunk)])
	c.sum.Write(p[:n])
	c.chunk -= int64(n)
	c.left -= int64(n)
	if c.chunk == 0 && n > 0 {
		c.err = c.ended()
		if c.err == nil {
			c.err = c.blank()
		}
	} else if err != nil {
		c.err = cutOff(err)
	}
	return n, c.err
}

// next reads a chunk's head, and after the last chunk the end of the body.
func (c *chunkReader) next() error {
	line, err := c.line()
	if err != nil {
		return cutOff(err)
	}
	size, said, ok := strings.Cut(line, ";chunk-signature=")
	n, err := strconv.ParseInt(size, 16, 64)
	if !ok || err != nil || n < 0 || n > c.left || n == 0 && c.left > 0 {
		return errChunks
	}
	c.chunk, c.said = n, said
	if n > 0 {
		return nil
	}
	if err := c.ended(); err != nil {
		return err
	}
	return c.end()
}

// ended checks the signature of the chunk that was read.
func (c *chunkReader) ended() error {
	defer c.sum.Reset()
	return c.check("AWS4-HMAC-SHA256-PAYLOAD", c.said, hexSum(nil)+"\n"+hex.EncodeToString(c.sum.Sum(nil)))
}

func (c *chunkReader) check(kind, said, what string) error {
	got, err := hex.DecodeString(said)
	want := c.sign(kind, c.before+"\n"+what)
	if err != nil || !hmac.Equal(got, want) {
		return errChunks
	}
	c.before = said
	return nil
}

// end reads what follows the last chunk. It answers io.EOF if that is right.
func (c *chunkReader) end() error {
	var signature string
	for range maxChunkLines {
		line, err := c.line()
		switch {
		case errors.Is(err, io.EOF) && line == "":
			return c.checkTrailer(signature)
		case err != nil:
			return cutOff(err)
		case line == "":
			continue
		case signature != "" || !c.trailer:
			return errChunks
		}
		if s, ok := strings.CutPrefix(line, "x-amz-trailer-signature:"); ok {
			signature = s
			continue
		}
		c.lines = append(c.lines, line)
	}
	return errChunks
}

func (c *chunkReader) checkTrailer(signature string) error {
	if !c.trailer {
		return io.EOF
	}
	var canonical strings.Builder
	for _, line := range c.lines {
		canonical.WriteString(line + "\n")
	}
	if err := c.check("AWS4-HMAC-SHA256-TRAILER", signature, hexSum([]byte(canonical.String()))); err != nil {
		return err
	}
	return io.EOF
}

// blank reads the end of a chunk's line.
func (c *chunkReader) blank() error {
	line, err := c.line()
	if err != nil {
		return cutOff(err)
	}
	if line != "" {
		return errChunks
	}
	return nil
}

// line is without its end. At the end of the body it is empty, with io.EOF.
func (c *chunkReader) line() (string, error) {
	line, err := c.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) || errors.Is(err, io.EOF) && len(line) > 0 {
		return "", errChunks
	}
	return string(bytes.TrimRight(line, "\r\n")), err
}

func cutOff(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// plainChunks writes what a chunkReader has in chunks without signatures.
type plainChunks struct {
	from *chunkReader
	data []byte
	out  bytes.Buffer
	err  error
}

const plainChunk = 64 << 10

func (c *plainChunks) Read(p []byte) (int, error) {
	for c.out.Len() == 0 {
		if c.err != nil {
			return 0, c.err
		}
		if c.data == nil {
			c.data = make([]byte, plainChunk)
		}
		n, err := io.ReadFull(c.from, c.data)
		if errors.Is(err, io.ErrUnexpectedEOF) && errors.Is(c.from.err, io.EOF) {
			err = io.EOF
		}
		c.err = err
		if n > 0 && (err == nil || errors.Is(err, io.EOF)) {
			fmt.Fprintf(&c.out, "%x\r\n%s\r\n", n, c.data[:n])
		}
		if errors.Is(err, io.EOF) {
			fmt.Fprintf(&c.out, "0\r\n%s\r\n", strings.Join(append(c.from.lines, ""), "\r\n"))
		}
	}
	return c.out.Read(p)
}

// whole keeps a body's last byte until its end is known to be right: who is
// told the length beforehand would take a wrong body for a whole one.
type whole struct{ in *bufio.Reader }

func (w *whole) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	_, err := w.in.Peek(2)
	switch {
	case err == nil:
		return w.in.Read(p[:min(len(p), w.in.Buffered()-1)])
	case errors.Is(err, io.EOF):
		return w.in.Read(p)
	default:
		return 0, err
	}
}
