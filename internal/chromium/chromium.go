// Package chromium runs a headless Chromium for tests and benchmarks of the
// page.
package chromium

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/chromedp/chromedp"
)

// ErrNone says that there is no Chromium on this machine.
var ErrNone = errors.New("there is no chromium; `make deps` installs it")

// starts is how long a browser may take to start, which takes none a second on a
// machine that is idle.
const starts = time.Minute

// Open starts a browser that keeps its files in dir, which must be there, and
// believes any certificate. It lives until the context that is answered ends or
// stop is called, which returns when the browser is gone; ctx bounds both.
func Open(ctx context.Context, dir string) (_ context.Context, stop func(), err error) {
	path, err := exec.LookPath("chromium")
	if err != nil {
		return nil, nil, ErrNone
	}
	ctx, end := chromedp.NewExecAllocator(ctx, append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.IgnoreCertErrors, chromedp.WindowSize(1120, 800),
		chromedp.UserDataDir(dir), chromedp.WSURLReadTimeout(starts))...)
	ctx, close := chromedp.NewContext(ctx)
	stop = func() {
		chromedp.Cancel(ctx)
		close()
		end()
	}
	if err := chromedp.Do(ctx); err != nil { // it outlives this call
		stop()
		return nil, nil, fmt.Errorf("start chromium: %w", err)
	}
	return ctx, stop, nil
}

// Until waits for a condition of the page, in JavaScript, or of the page that
// comes after it.
func Until(ctx context.Context, condition string) error {
	for {
		is, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`new Promise((is) => { const look = () => { if (`+condition+`) is(true); else setTimeout(look, 10); }; look(); })`, chromedp.EvalAwaitPromise))
		switch {
		case is:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("%s: %w", condition, context.Cause(ctx))
		case err != nil && !strings.Contains(err.Error(), "context") && !strings.Contains(err.Error(), "navigat"):
			return fmt.Errorf("%s: %w", condition, err)
		}
	}
}
