package forward

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	signer "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// How a caller says where a request is meant to go: Birger's headers. An AWS
// client that knows nothing of them is understood too, by the scope of its
// signature.
const (
	originalHost  = "X-Opsmx-Original-Host"
	originalPort  = "X-Opsmx-Original-Port"
	signingName   = "X-Opsmx-Service-Signing-Name"
	signingRegion = "X-Opsmx-Signing-Region"
)

// AWSConfig says as whom a service of type aws signs requests. The zero value
// is what the AWS SDK finds by itself: the environment, the shared files, the
// role of a service account, of a task or of a machine.
type AWSConfig struct {
	// AccessKeyFile or AccessKeyEnv, and SecretKeyFile or SecretKeyEnv, name
	// where a fixed key is.
	AccessKeyFile string `yaml:"accessKeyFile"`
	AccessKeyEnv  string `yaml:"accessKeyEnv"`
	SecretKeyFile string `yaml:"secretKeyFile"`
	SecretKeyEnv  string `yaml:"secretKeyEnv"`
	// SecretName is a Secret of Kubernetes with the keys awsAccessKey and
	// awsSecretAccessKey, and awsSessionToken if there is one.
	SecretName      string `yaml:"secretName"`
	SecretNamespace string `yaml:"secretNamespace"`
	// Profile is one of the shared files.
	Profile string `yaml:"profile"`
	// WebIdentityTokenFile is shown to STS for RoleARN.
	WebIdentityTokenFile string `yaml:"webIdentityTokenFile"`
	// RoleARN is the role to act as, with any credentials; ExternalID is told
	// to who owns it.
	RoleARN    string `yaml:"roleARN"`
	ExternalID string `yaml:"externalID"`
	// Region is where STS is asked.
	Region string `yaml:"region"`
	// Hosts are patterns of host names that requests may go to beside AWS's
	// own, such as those of endpoints inside a network.
	Hosts []string `yaml:"hosts"`
}

// awsHosts are where requests may go unless the configuration says otherwise:
// nobody else could be the owner of a name below these.
var awsHosts = []string{".amazonaws.com", ".amazonaws.com.cn", ".api.aws", ".on.aws"}

func validateAWS(u Upstream) error {
	if u.Credentials != (Credentials{}) {
		return errors.New("credentials aren't for type aws; use aws")
	}
	if u.URL != "" {
		base, err := parseBase(u.URL)
		if err != nil {
			return err
		}
		if base.Scheme == "http" && (u.Insecure || u.CAFile != "") {
			return errors.New("insecure and caFile need a url with https")
		}
	}
	if u.AWS == nil {
		return nil
	}
	c := *u.AWS
	for _, pattern := range c.Hosts {
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
			return fmt.Errorf("aws.hosts: %q isn't a pattern", pattern)
		}
	}
	fixed := c.AccessKeyFile != "" || c.AccessKeyEnv != "" || c.SecretKeyFile != "" || c.SecretKeyEnv != ""
	var sources int
	for _, is := range []bool{fixed, c.SecretName != "", c.Profile != "", c.WebIdentityTokenFile != ""} {
		if is {
			sources++
		}
	}
	switch {
	case sources > 1:
		return errors.New("aws: a fixed key, secretName, profile and webIdentityTokenFile exclude each other")
	case c.WebIdentityTokenFile != "" && c.RoleARN == "":
		return errors.New("aws.roleARN: missing; webIdentityTokenFile needs it")
	case c.ExternalID != "" && c.RoleARN == "":
		return errors.New("aws.externalID: needs roleARN")
	case c.SecretNamespace != "" && c.SecretName == "":
		return errors.New("aws.secretNamespace: needs secretName")
	}
	if err := oneOf(c.AccessKeyFile, c.AccessKeyEnv, "accessKey", fixed, "aws"); err != nil {
		return err
	}
	return oneOf(c.SecretKeyFile, c.SecretKeyEnv, "secretKey", fixed, "aws")
}

// openAWS is the way to AWS. What signs requests here is asked for only when
// the first of them comes.
func openAWS(u Upstream, env environment) (func() (*route, error), error) {
	tlsConfig, err := clientTLS(u, env.secrets)
	if err != nil {
		return nil, err
	}
	a := &awsTransport{next: newTransport(tlsConfig), signer: signer.NewSigner()}
	if u.AWS != nil {
		a.hosts = u.AWS.Hosts
	}
	// A path that isn't to be changed, and a host for want of a better one:
	// each request names its own.
	base := &url.URL{Scheme: "https", Host: "amazonaws.com"}
	if u.URL != "" {
		if base, err = parseBase(u.URL); err != nil {
			return nil, err
		}
		a.base = base
	}
	if a.credentials, err = awsCredentials(u.AWS, env.secrets); err != nil {
		return nil, err
	}
	return fixed(env.route(base, a)), nil
}

func awsCredentials(c *AWSConfig, secrets Secrets) (aws.CredentialsProvider, error) {
	if c == nil {
		c = &AWSConfig{}
	}
	var options []func(*config.LoadOptions) error
	if c.Region != "" {
		options = append(options, config.WithRegion(c.Region))
	}
	if c.Profile != "" {
		options = append(options, config.WithSharedConfigProfile(c.Profile))
	}
	var keys aws.CredentialsProvider
	switch {
	case c.SecretName != "":
		keys = keysOf(fromSecret(secrets, c.SecretNamespace, c.SecretName, "awsAccessKey"),
			fromSecret(secrets, c.SecretNamespace, c.SecretName, "awsSecretAccessKey"),
			func(ctx context.Context) (string, error) {
				data, err := secrets.Secret(ctx, c.SecretNamespace, c.SecretName)
				return strings.TrimSpace(string(data["awsSessionToken"])), err
			})
	case c.AccessKeyFile != "" || c.AccessKeyEnv != "":
		keys = keysOf(fromFile(c.AccessKeyFile, c.AccessKeyEnv), fromFile(c.SecretKeyFile, c.SecretKeyEnv), fixedSource(""))
	}
	if keys != nil {
		options = append(options, config.WithCredentialsProvider(keys))
	}
	loaded, err := config.LoadDefaultConfig(context.Background(), options...)
	if err != nil {
		return nil, fmt.Errorf("aws: %w", err)
	}
	if loaded.Region == "" {
		loaded.Region = "us-east-1" // STS is there for every account
	}
	switch {
	case c.WebIdentityTokenFile != "":
		keys = stscreds.NewWebIdentityRoleProvider(sts.NewFromConfig(loaded), c.RoleARN, stscreds.IdentityTokenFile(c.WebIdentityTokenFile))
	case c.RoleARN != "":
		keys = stscreds.NewAssumeRoleProvider(sts.NewFromConfig(loaded), c.RoleARN, func(o *stscreds.AssumeRoleOptions) {
			if c.ExternalID != "" {
				o.ExternalID = &c.ExternalID
			}
		})
	case keys != nil:
		return keys, nil // they look themselves whether they have changed
	default:
		return loaded.Credentials, nil
	}
	return aws.NewCredentialsCache(keys, func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = time.Minute }), nil
}

// keysOf are keys that are asked for with each request.
func keysOf(access, secret, session source) aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(ctx context.Context) (c aws.Credentials, err error) {
		if c.AccessKeyID, err = access(ctx); err != nil {
			return c, err
		}
		if c.SecretAccessKey, err = secret(ctx); err != nil {
			return c, err
		}
		c.SessionToken, err = session(ctx)
		return c, err
	})
}

// awsTransport signs requests anew and sends them to AWS.
type awsTransport struct {
	next        http.RoundTripper
	signer      *signer.Signer
	credentials aws.CredentialsProvider
	base        *url.URL // where all requests go; nil: where each says
	hosts       []string // patterns of hosts beside AWS's own
}

var (
	errAWSScope = fmt.Errorf("%w: the request doesn't say which service of AWS, and which region, it is for: call it with an AWS client, or set %s and %s", errBadRequest, signingName, signingRegion)
	errAWSHost  = fmt.Errorf("%w: that host isn't one of AWS's; the owner of the agent can allow it in aws.hosts", ErrForbidden)
	errAWSChunk = fmt.Errorf("%w: a body whose chunks are signed one by one can't be signed anew; have the client sign them with AWS4-HMAC-SHA256, call with the access key that they are signed with, or sign without them (UNSIGNED-PAYLOAD, or a checksum in the trailer)", errBadRequest)
	errAWSLarge = fmt.Errorf("%w: a body of more than %d bytes must come with its hash in %s", errBadRequest, maxUnhashed, amzContentHash)
)

// scopeLabel is what a service and a region are called: they become a part of
// a host's name.
var scopeLabel = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

func (a *awsTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := a.prepare(r); err != nil {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, err
	}
	return a.next.RoundTrip(r)
}

// prepare makes r one that AWS takes.
func (a *awsTransport) prepare(r *http.Request) error {
	service, region := r.Header.Get(signingName), r.Header.Get(signingRegion)
	if !scopeLabel.MatchString(service) || !scopeLabel.MatchString(region) {
		return errAWSScope
	}
	if a.base == nil {
		host, err := a.host(r.Header.Get(originalHost), r.Header.Get(originalPort), service, region)
		if err != nil {
			return err
		}
		r.URL.Host = host
	}
	r.Host = r.URL.Host
	for name := range r.Header {
		// What is signed must arrive as it is: what says something of the way
		// here is of no concern to AWS.
		if strings.HasPrefix(name, "X-Forwarded-") || strings.HasPrefix(name, "X-Opsmx-") {
			delete(r.Header, name)
		}
	}
	r.Header.Del(amzToken)
	r.Header.Del(amzDate)
	payload, err := payloadOf(r, service)
	if err != nil {
		return err
	}
	keys, err := a.credentials.Retrieve(r.Context())
	if err != nil {
		return fmt.Errorf("%w: %w", errCredential, err)
	}
	return a.signer.SignHTTP(r.Context(), keys, r, payload, service, region, time.Now(), func(o *signer.SignerOptions) {
		o.DisableURIPathEscaping = strings.HasPrefix(service, "s3")
	})
}

// host is where a request goes: where the caller says that it was meant to
// go, or to the service's endpoint in the region.
func (a *awsTransport) host(host, port, service, region string) (string, error) {
	if host == "" {
		return endpoint(service, region), nil
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if port != "" && port != "443" {
		host = net.JoinHostPort(host, port)
	}
	own := func(suffix string) bool {
		return strings.HasSuffix(host, suffix) && strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789.-_") == ""
	}
	allowed := func(pattern string) bool {
		ok, _ := path.Match(strings.ToLower(pattern), host)
		return ok
	}
	if slices.ContainsFunc(awsHosts, own) || slices.ContainsFunc(a.hosts, allowed) {
		return host, nil
	}
	return "", errAWSHost
}

// endpoint is the name of a service's endpoint, for clients that were told to
// call the hub instead. A few services have one for the whole world.
func endpoint(service, region string) string {
	domain := "amazonaws.com"
	if strings.HasPrefix(region, "cn-") {
		domain += ".cn"
	}
	switch service {
	case "iam", "route53", "cloudfront", "organizations", "globalaccelerator":
		return service + "." + domain
	case "ses":
		service = "email"
	case "execute-api", "s3express":
		// Their names hold more than the service; the caller has to say it.
	}
	return service + "." + region + "." + domain
}

// payloadOf is what the signature says of the body, and what a header then
// has to say. A hash that the caller sent has been checked, or will be by AWS.
func payloadOf(r *http.Request, service string) (string, error) {
	said := r.Header.Get(amzContentHash)
	switch {
	case strings.HasPrefix(said, "STREAMING-AWS4-"):
		return "", errAWSChunk
	case said != "":
		return said, nil
	case strings.HasPrefix(service, "s3"):
		r.Header.Set(amzContentHash, unsignedPayload)
		return unsignedPayload, nil
	case r.Body == nil || r.Body == http.NoBody:
		return hexSum(nil), nil
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxUnhashed+1))
	r.Body.Close()
	if err != nil {
		return "", err
	}
	if len(body) > maxUnhashed {
		return "", errAWSLarge
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return hexSum(body), nil
}

// forAWS tells the agent which service and region a request is for, where the
// caller left that to its signature.
func forAWS(h http.Header, authorization string) {
	if s, err := parseAWS(authorization); err == nil {
		s.scope.tell(h)
	}
}
