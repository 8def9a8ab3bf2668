package blob

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"gocloud.dev/blob"
	_ "gocloud.dev/blob/s3blob" // for s3:// URLs
	"gocloud.dev/gcerrors"
)

// Bucket keeps documents in object storage that speaks S3, in place of a
// [Folder]. A document is the object documents/HEX.gz. An object can't be made
// younger in place, so Has leaves an empty one, touched/HEX, whose age counts
// as well.
//
// Nor can one be removed only if it is still old. So Sweep leaves sweeping/HEX/NAME
// before it looks at the age for the last time, and takes that away once it has
// removed the document or hasn't; NAME is the process's, since several may sweep.
// Who has put or touched the document looks for such objects, waits until there are
// none, and then sees whether the document is there: either it was young for the
// sweep, or its removal is over by then.
type Bucket struct {
	b         *blob.Bucket
	scratch   string
	name      string        // of this process among those that sweep
	uploading chan struct{} // has room for as many as may go on at a time
}

// uploads bounds the memory that uploads take, each of which holds all of a
// document up to 16 MiB, or parts of 8 MiB of a larger one.
const uploads = 8

const (
	documentsPath = "documents/"
	touchedPath   = "touched/"
	sweepingPath  = "sweeping/"

	// askTime bounds a question to the storage, and moveTime what moves a
	// document.
	askTime  = 30 * time.Second
	moveTime = 10 * time.Minute
	// sweepTime is longer than what Sweep does with one document, and settle how
	// often it is asked whether that is over.
	sweepTime   = 4 * askTime
	settleEvery = 200 * time.Millisecond
)

// ValidateBucketURL reports what is wrong with a URL for OpenBucket.
func ValidateBucketURL(rawURL string) error {
	u, err := url.Parse(rawURL)
	switch {
	case err != nil || u.Scheme != "s3" || u.Host == "" || u.Path != "":
		return errors.New("it must be s3://BUCKET?region=REGION, where needed with &endpoint=https://HOST&use_path_style=true and &prefix=FOLDER/")
	case u.User != nil:
		return errors.New("no credentials belong in it: they are found as the AWS CLI finds them, in the environment, its files or the machine's role")
	}
	return nil
}

// OpenBucket opens the bucket that an s3:// URL names, as gocloud.dev's s3blob
// has it, and makes sure that it may be used. What is put is collected in
// scratch first, a folder of the caller's own that is made if it isn't there, and
// what an earlier process left there half written is removed.
func OpenBucket(ctx context.Context, rawURL, scratch string) (*Bucket, error) {
	if err := ValidateBucketURL(rawURL); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(scratch, 0o700); err != nil {
		return nil, err
	}
	if err := removeHalfWritten(scratch, time.Now().Add(-time.Hour)); err != nil {
		return nil, err
	}
	b, err := blob.OpenBucket(ctx, rawURL)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	switch ok, err := b.IsAccessible(ctx); {
	case err != nil:
		return nil, errors.Join(fmt.Errorf("the bucket can't be used; see to its name, region, endpoint and the credentials: %w", err), b.Close())
	case !ok:
		return nil, errors.Join(errors.New("there is no such bucket; make it first"), b.Close())
	}
	return &Bucket{b: b, scratch: scratch, name: rand.Text(), uploading: make(chan struct{}, uploads)}, nil
}

// Close ends what is under way.
func (b *Bucket) Close() error { return b.b.Close() }

// Put is [Folder.Put].
func (b *Bucket) Put(r io.Reader, limit int64) (Digest, int64, error) {
	tmp, err := os.CreateTemp(b.scratch, "tmp-*")
	if err != nil {
		return "", 0, err
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	d, n, err := pack(tmp, r, limit)
	if err != nil {
		return "", 0, err
	}
	b.uploading <- struct{}{}
	defer func() { <-b.uploading }()
	ctx, cancel := context.WithTimeout(context.Background(), moveTime)
	defer cancel()
	for there := false; !there; { // a sweep may take it away once, while it is old
		if _, err := tmp.Seek(0, io.SeekStart); err != nil {
			return "", 0, err
		}
		if err := b.b.Upload(ctx, documentKey(d), tmp, &blob.WriterOptions{ContentType: "application/gzip", MaxConcurrency: 2}); err != nil {
			return "", 0, err
		}
		if there, err = b.settled(ctx, d); err != nil {
			return "", 0, err
		}
	}
	return d, n, nil
}

// settled reports whether a document that was just put or touched is there to
// stay.
func (b *Bucket) settled(ctx context.Context, d Digest) (bool, error) {
	for began := time.Now(); ; {
		sweeping, _, err := b.b.ListPage(ctx, blob.FirstPageToken, 1, &blob.ListOptions{Prefix: sweepingPath + hexOf(d) + "/"})
		if err != nil {
			return false, err
		}
		// Whoever left it died if it stays.
		if len(sweeping) == 0 || time.Since(began) > sweepTime {
			return b.b.Exists(ctx, documentKey(d))
		}
		select {
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-time.After(settleEvery):
		}
	}
}

// Get is [Folder.Get].
func (b *Bucket) Get(d Digest) (io.ReadCloser, error) {
	if err := d.Validate(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), moveTime)
	body, err := b.b.NewReader(ctx, documentKey(d), nil)
	if err != nil {
		cancel()
		if gcerrors.Code(err) == gcerrors.NotFound {
			err = ErrNotFound
		}
		return nil, fmt.Errorf("%s: %w", d, err)
	}
	return unpack(&download{body, cancel}, d)
}

type download struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (d *download) Close() error {
	defer d.cancel()
	return d.ReadCloser.Close()
}

// Has is [Folder.Has].
func (b *Bucket) Has(d Digest) (bool, error) {
	if err := d.Validate(); err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), askTime+sweepTime)
	defer cancel()
	if err := b.leave(ctx, touchedPath+hexOf(d)); err != nil {
		return false, err
	}
	return b.settled(ctx, d)
}

// leave writes an empty object, or makes it young.
func (b *Bucket) leave(ctx context.Context, key string) error {
	return b.b.WriteAll(ctx, key, nil, &blob.WriterOptions{ContentType: "text/plain"})
}

// Sweep is [Folder.Sweep].
func (b *Bucket) Sweep(before time.Time, keep func(Digest) (bool, error)) (removed int, err error) {
	err = b.old(documentsPath, before, func(key string) error {
		h, ok := strings.CutSuffix(strings.TrimPrefix(key, documentsPath), ".gz")
		d := Digest(prefix + h)
		if !ok || d.Validate() != nil {
			return nil
		}
		if kept, err := keep(d); err != nil || kept {
			return err
		}
		if young, err := b.young(touchedPath+h, before); err != nil || young {
			return err
		}
		gone, err := b.removeOld(d, before)
		if gone {
			removed++
		}
		return err
	})
	if err != nil {
		return removed, err
	}
	return removed, errors.Join(b.old(touchedPath, before, b.remove), b.old(sweepingPath, before, b.remove))
}

// removeOld removes a document unless it is young, as Bucket's comment has it.
func (b *Bucket) removeOld(d Digest, before time.Time) (gone bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	sweeping := sweepingPath + hexOf(d) + "/" + b.name
	if err := b.leave(ctx, sweeping); err != nil {
		return false, err
	}
	for _, key := range []string{documentKey(d), touchedPath + hexOf(d)} {
		if young, err := b.young(key, before); err != nil || young {
			return false, errors.Join(err, b.remove(sweeping))
		}
	}
	// Where the answer is lost the storage may still do it.
	if err := b.remove(documentKey(d)); err != nil {
		return false, err
	}
	return true, b.remove(sweeping)
}

// old calls f with each key beneath a path that was written before that time.
func (b *Bucket) old(under string, before time.Time, f func(key string) error) error {
	for page := blob.FirstPageToken; len(page) > 0; {
		objects, next, err := b.page(under, page)
		if err != nil {
			return err
		}
		for _, o := range objects {
			if o.ModTime.After(before) {
				continue
			}
			if err := f(o.Key); err != nil {
				return err
			}
		}
		page = next
	}
	return nil
}

func (b *Bucket) page(under string, token []byte) ([]*blob.ListObject, []byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	return b.b.ListPage(ctx, token, 1000, &blob.ListOptions{Prefix: under})
}

// young reports whether an object is there that was written after that time.
func (b *Bucket) young(key string, before time.Time) (bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	a, err := b.b.Attributes(ctx, key)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return false, nil
	}
	return err == nil && a.ModTime.After(before), err
}

// remove takes an object away, which another process may have done.
func (b *Bucket) remove(key string) error {
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	err := b.b.Delete(ctx, key)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return nil
	}
	return err
}

func documentKey(d Digest) string { return documentsPath + hexOf(d) + ".gz" }
func hexOf(d Digest) string       { return strings.TrimPrefix(string(d), prefix) }
