package forward

import (
	"encoding/json"
	"maps"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reeve.dev/reeve/fleet"
)

// problem answers a caller with what went wrong and what to do, in the shape
// that its program prints. typ is empty where the service isn't known yet.
func problem(w http.ResponseWriter, r *http.Request, typ fleet.ServiceType, status int, detail string) {
	problemWith(w, r, typ, status, detail, nil)
}

// problemWith is problem with more members for the answer's header.
func problemWith(w http.ResponseWriter, r *http.Request, typ fleet.ServiceType, status int, detail string, header http.Header) {
	// What a proxy may have copied from an answer that it then gave up.
	clear(w.Header())
	maps.Copy(w.Header(), header)
	if status == http.StatusUnauthorized {
		w.Header().Add("WWW-Authenticate", `Bearer realm="reeve"`)
		w.Header().Add("WWW-Authenticate", `Basic realm="reeve"`)
	}
	var body any
	if typ == fleet.Kubernetes || typ == "" && kubernetesClient(r) {
		w.Header().Set("Content-Type", "application/json")
		s := metav1.Status{
			TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
			Status:   metav1.StatusFailure,
			Message:  detail,
			Reason:   reasons[status],
			Code:     int32(status),
		}
		if n, err := strconv.ParseInt(header.Get("Retry-After"), 10, 32); err == nil {
			s.Details = &metav1.StatusDetails{RetryAfterSeconds: int32(n)}
		}
		body = s
	} else {
		w.Header().Set("Content-Type", "application/problem+json")
		body = struct {
			Title  string `json:"title"`
			Status int    `json:"status"`
			Detail string `json:"detail"`
		}{http.StatusText(status), status, detail}
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}

var reasons = map[int]metav1.StatusReason{
	http.StatusBadRequest:   metav1.StatusReasonBadRequest,
	http.StatusUnauthorized: metav1.StatusReasonUnauthorized,
	http.StatusForbidden:    metav1.StatusReasonForbidden,
	// What isn't there is the agent or its service. NotFound would say that
	// an object is gone: "kubectl delete --ignore-not-found" and "kubectl wait
	// --for=delete" would be content, and a controller would clean up after it.
	http.StatusNotFound:            metav1.StatusReasonServiceUnavailable,
	http.StatusMethodNotAllowed:    metav1.StatusReasonMethodNotAllowed,
	http.StatusTooManyRequests:     metav1.StatusReasonTooManyRequests,
	http.StatusBadGateway:          metav1.StatusReasonServiceUnavailable,
	http.StatusServiceUnavailable:  metav1.StatusReasonServiceUnavailable,
	http.StatusGatewayTimeout:      metav1.StatusReasonTimeout,
	http.StatusInternalServerError: metav1.StatusReasonInternalError,
}

// kubernetesClient knows kubectl, and what else is made with client-go, by
// the end of its User-Agent.
func kubernetesClient(r *http.Request) bool {
	return strings.Contains(r.UserAgent(), " kubernetes/")
}

// refusedHeader says, on an answer of the agent's own, what it doesn't have.
const refusedHeader = "Reeve-Refused"

// unknownService is refusedHeader's value where the agent has no such service,
// so that the hub can say which there are.
const unknownService = "service"

// retryAfter is a header that says when to try again, in whole seconds.
func retryAfter(d time.Duration) http.Header {
	s := max(1, min(math.Ceil(d.Seconds()), math.MaxInt32))
	return http.Header{"Retry-After": {strconv.Itoa(int(s))}}
}
