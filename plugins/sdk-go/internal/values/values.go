// Package values turns Go values into the payloads of the protocol, and back.
package values

import (
	"bytes"
	"encoding/json"

	blobv1 "github.com/consort-mesh/consort/plugins/sdk-go/gen/consort/blob/v1"
)

// Encode writes a value as JSON text, without escaping what is only special in HTML.
func Encode(value any) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(text.Bytes(), []byte("\n")), nil
}

// Payload holds JSON text.
func Payload(text []byte) *blobv1.Payload {
	return &blobv1.Payload{Kind: &blobv1.Payload_Json{Json: string(text)}}
}

// Text is the JSON text of a payload, `absent` for none, or the blob where it is.
func Text(payload *blobv1.Payload, absent string) ([]byte, *blobv1.BlobRef, error) {
	switch kind := payload.GetKind().(type) {
	case *blobv1.Payload_Json:
		return []byte(kind.Json), nil, nil
	case *blobv1.Payload_Value:
		text, err := kind.Value.MarshalJSON()
		return text, nil, err
	case *blobv1.Payload_Blob:
		return nil, kind.Blob, nil
	}
	return []byte(absent), nil, nil
}
