package forward

import (
	"encoding/json"
	"net/http"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reeve.dev/reeve/fleet"
)

// problem answers a caller with what went wrong and what to do, in the shape
// that its program prints. typ is empty where the service isn't known yet.
func problem(w http.ResponseWriter, r *http.Request, typ fleet.ServiceType, status int, detail string) {
	// What a proxy may have copied from an answer that it then gave up.
	clear(w.Header())
	if status == http.StatusUnauthorized {
		w.Header().Add("WWW-Authenticate", `Bearer realm="reeve"`)
		w.Header().Add("WWW-Authenticate", `Basic realm="reeve"`)
	}
	var body any
	if typ == fleet.Kubernetes || typ == "" && kubernetesClient(r) {
		w.Header().Set("Content-Type", "application/json")
		body = metav1.Status{
			TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
			Status:   metav1.StatusFailure,
			Message:  detail,
			Reason:   reasons[status],
			Code:     int32(status),
		}
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
	http.StatusBadRequest:          metav1.StatusReasonBadRequest,
	http.StatusUnauthorized:        metav1.StatusReasonUnauthorized,
	http.StatusForbidden:           metav1.StatusReasonForbidden,
	http.StatusNotFound:            metav1.StatusReasonNotFound,
	http.StatusMethodNotAllowed:    metav1.StatusReasonMethodNotAllowed,
	http.StatusBadGateway:          metav1.StatusReasonServiceUnavailable,
	http.StatusInternalServerError: metav1.StatusReasonInternalError,
}

// kubernetesClient knows kubectl, and what else is made with client-go, by
// the end of its User-Agent.
func kubernetesClient(r *http.Request) bool {
	return strings.Contains(r.UserAgent(), " kubernetes/")
}
