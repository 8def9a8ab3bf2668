package credential

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"cloud.google.com/go/compute/metadata"
	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
	"golang.org/x/oauth2/google"
)

const (
	timeout   = 10 * time.Second
	maxAnswer = 256 << 10
)

// readToken reads what is in a file that something may renew.
func readToken(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("file: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err != nil {
		return "", fmt.Errorf("file: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if !sendable(token) {
		return "", fmt.Errorf("file: %s holds no token", file)
	}
	return token, nil
}

func tokenFile(c Config) (Fetch, error) {
	if c.File == "" {
		return nil, errors.New("file: it must name the file that holds the token")
	}
	return func(context.Context) (Token, error) {
		token, err := readToken(c.File)
		return Token{Value: token, Expires: time.Now()}, err // read anew each time
	}, nil
}

func jwtFile(c Config) (Fetch, error) {
	if c.File == "" {
		return nil, errors.New("file: it must name the file that holds the JSON Web Token")
	}
	return func(context.Context) (Token, error) {
		token, err := readToken(c.File)
		if err != nil {
			return Token{}, err
		}
		var claims jwt.RegisteredClaims
		if _, _, err := jwt.NewParser().ParseUnverified(token, &claims); err != nil {
			return Token{}, fmt.Errorf("file: %s holds no JSON Web Token", c.File)
		}
		if claims.ExpiresAt != nil && time.Now().After(claims.ExpiresAt.Time) {
			return Token{}, fmt.Errorf("file: the token in %s ended at %s, and nothing has renewed it", c.File, claims.ExpiresAt.UTC().Format(time.RFC3339))
		}
		return Token{Value: token, Expires: time.Now()}, nil
	}, nil
}

// endpoint checks a token endpoint and returns how it is asked: without
// redirects, so that a secret doesn't go where nobody sent it.
func endpoint(c Config) (*http.Client, error) {
	u, err := url.Parse(c.TokenURL)
	switch {
	case err != nil || u.Scheme != "https" || u.Host == "":
		return nil, errors.New("tokenURL: it must be https://HOST/PATH")
	case u.User != nil:
		return nil, errors.New("tokenURL: it must hold no user or password; use clientID and clientSecretFile")
	}
	t := TLS{CAFile: c.CAFile, MinVersion: tls.VersionTLS12}
	if _, err := t.Config(); err != nil {
		return nil, err
	}
	conf, err := t.Config()
	return &http.Client{
		Timeout:       timeout,
		Transport:     limited{&http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: conf, MaxResponseHeaderBytes: 64 << 10, DisableKeepAlives: true}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, err
}

// limited bounds what is read of an answer.
type limited struct{ http.RoundTripper }

func (l limited) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := l.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	}
	return resp, err
}

// asked is err without what a token endpoint said, which may repeat a secret.
func asked(err error) error {
	if err == nil {
		return nil
	}
	var refused *oauth2.RetrieveError
	if errors.As(err, &refused) {
		return answered(refused.Response.StatusCode, refused.ErrorCode)
	}
	var u *url.Error
	if errors.As(err, &u) {
		return fmt.Errorf("the token endpoint: %w", u.Err)
	}
	return errors.New("the token endpoint gave no token")
}

func answered(status int, code string) error {
	if code == "" || len(code) > 64 || strings.ContainsFunc(code, func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') }) {
		return fmt.Errorf("the token endpoint answered %d", status)
	}
	return fmt.Errorf("the token endpoint answered %d %s", status, code)
}

func clientCredentials(c Config) (Fetch, error) {
	client, err := endpoint(c)
	switch {
	case err != nil:
		return nil, err
	case c.ClientID == "":
		return nil, errors.New("clientID: it is missing")
	case c.ClientSecretFile == "":
		return nil, errors.New("clientSecretFile: it must name the file that holds the client's secret")
	}
	return func(ctx context.Context) (Token, error) {
		secret, err := readToken(c.ClientSecretFile)
		if err != nil {
			return Token{}, fmt.Errorf("clientSecret%w", err)
		}
		conf := clientcredentials.Config{ClientID: c.ClientID, ClientSecret: secret, TokenURL: c.TokenURL, Scopes: c.Scopes}
		if c.Audience != "" {
			conf.EndpointParams = url.Values{"audience": {c.Audience}}
		}
		t, err := conf.Token(context.WithValue(ctx, oauth2.HTTPClient, client))
		if err != nil {
			return Token{}, asked(err)
		}
		return Token{Value: t.AccessToken, Expires: t.Expiry}, nil
	}, nil
}

// The types of tokens of RFC 8693.
const (
	jwtType    = "urn:ietf:params:oauth:token-type:jwt"
	accessType = "urn:ietf:params:oauth:token-type:access_token"
)

func tokenExchange(c Config) (Fetch, error) {
	client, err := endpoint(c)
	switch {
	case err != nil:
		return nil, err
	case c.File == "":
		return nil, errors.New("file: it must name the file that holds the token to exchange")
	case c.ClientSecretFile != "" && c.ClientID == "":
		return nil, errors.New("clientID: it is missing beside clientSecretFile")
	}
	form := url.Values{
		"grant_type":           {"urn:ietf:params:oauth:grant-type:token-exchange"},
		"subject_token_type":   {or(c.SubjectTokenType, jwtType)},
		"requested_token_type": {or(c.RequestedTokenType, accessType)},
	}
	if c.Audience != "" {
		form.Set("audience", c.Audience)
	}
	if len(c.Scopes) > 0 {
		form.Set("scope", strings.Join(c.Scopes, " "))
	}
	return func(ctx context.Context) (Token, error) {
		subject, err := readToken(c.File)
		if err != nil {
			return Token{}, err
		}
		body := url.Values{"subject_token": {subject}}
		for k, v := range form {
			body[k] = v
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.TokenURL, strings.NewReader(body.Encode()))
		if err != nil {
			return Token{}, err
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Accept", "application/json")
		if c.ClientSecretFile != "" {
			secret, err := readToken(c.ClientSecretFile)
			if err != nil {
				return Token{}, fmt.Errorf("clientSecret%w", err)
			}
			req.SetBasicAuth(url.QueryEscape(c.ClientID), url.QueryEscape(secret))
		} else if c.ClientID != "" {
			body.Set("client_id", c.ClientID)
			req.Body = io.NopCloser(strings.NewReader(body.Encode()))
			req.ContentLength = int64(len(body.Encode()))
		}
		return exchange(client, req)
	}, nil
}

func exchange(client *http.Client, req *http.Request) (Token, error) {
	resp, err := client.Do(req)
	if err != nil {
		return Token{}, asked(err)
	}
	defer resp.Body.Close()
	var answer struct {
		AccessToken string  `json:"access_token"`
		ExpiresIn   float64 `json:"expires_in"`
		Error       string  `json:"error"`
	}
	decoded := json.NewDecoder(resp.Body).Decode(&answer)
	if resp.StatusCode != http.StatusOK {
		return Token{}, answered(resp.StatusCode, answer.Error)
	}
	if decoded != nil || answer.AccessToken == "" {
		return Token{}, errors.New("the token endpoint gave no token")
	}
	t := Token{Value: answer.AccessToken}
	if s := answer.ExpiresIn; s > 0 && s < 1e9 {
		t.Expires = time.Now().Add(time.Duration(s) * time.Second)
	}
	return t, nil
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// cloudPlatform is the scope that Google's services take.
const cloudPlatform = "https://www.googleapis.com/auth/cloud-platform"

func googleADC(c Config) (Fetch, error) {
	scopes := c.Scopes
	if len(scopes) == 0 {
		scopes = []string{cloudPlatform}
	}
	if c.Audience != "" && len(c.Scopes) > 0 {
		return nil, errors.New("scopes: an ID token, which audience asks for, has none; keep one of the two")
	}
	return func(ctx context.Context) (Token, error) {
		found, err := googleCredentials(ctx, c.File, scopes)
		if err != nil {
			return Token{}, err
		}
		if c.Audience != "" {
			return googleIDToken(ctx, found, c.Audience)
		}
		t, err := found.TokenSource.Token()
		if err != nil {
			return Token{}, googled(err)
		}
		return Token{Value: t.AccessToken, Expires: t.Expiry}, nil
	}, nil
}

func googleCredentials(ctx context.Context, file string, scopes []string) (*google.Credentials, error) {
	if file == "" {
		found, err := google.FindDefaultCredentials(ctx, scopes...)
		if err != nil {
			return nil, errors.New("there are no application default credentials of Google's: set GOOGLE_APPLICATION_CREDENTIALS or credential.file, or run where there is a metadata server")
		}
		return found, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("file: %w", err)
	}
	var kind struct {
		Type google.CredentialsType `json:"type"`
	}
	if err := json.Unmarshal(text, &kind); err != nil {
		return nil, fmt.Errorf("file: %s holds no credentials of Google's", file)
	}
	found, err := google.CredentialsFromJSONWithType(ctx, text, kind.Type, scopes...)
	if err != nil {
		return nil, fmt.Errorf("file: %s holds no credentials of Google's", file) // err may repeat what is in it
	}
	return found, nil
}

// googleIDToken gets an ID token: by the key of a service account, or from the
// metadata server.
func googleIDToken(ctx context.Context, found *google.Credentials, audience string) (Token, error) {
	if len(found.JSON) == 0 {
		token, err := metadata.GetWithContext(ctx, "instance/service-accounts/default/identity?format=full&audience="+url.QueryEscape(audience))
		if err != nil {
			return Token{}, errors.New("the metadata server gave no ID token")
		}
		return Token{Value: strings.TrimSpace(token)}, nil
	}
	conf, err := google.JWTConfigFromJSON(found.JSON)
	if err != nil {
		return Token{}, errors.New("audience: only the key of a service account, or the metadata server, gives ID tokens; leave audience out for an access token")
	}
	conf.UseIDToken, conf.PrivateClaims = true, map[string]any{"target_audience": audience}
	t, err := conf.TokenSource(ctx).Token()
	if err != nil {
		return Token{}, googled(err)
	}
	return Token{Value: t.AccessToken, Expires: t.Expiry}, nil
}

func googled(err error) error {
	var refused *oauth2.RetrieveError
	if errors.As(err, &refused) {
		return asked(err)
	}
	return errors.New("no token from Google; whether its endpoints can be reached from here, and the credentials still exist, is worth a look")
}
