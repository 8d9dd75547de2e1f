#!/usr/bin/env python3
"""Runs OpenAI's own Python client against a server of Penwright and says what it checked.

    penwright serve runs/ngram runs/lstm runs/gpt2 &
    pip install openai
    python bench/serve/openai_client.py http://127.0.0.1:8080/v1 [--key KEY]

Every model is asked. Ends with status 1 at the first thing that is not as it should be.
"""

import argparse
import http.server
import json
import math
import threading
import urllib.request

import openai

PROMPT = "The door"


def check(what, holds, detail=""):
    if not holds:
        raise SystemExit(f"not so: {what} {detail}")
    print(f"ok  {what}")


def completions(client, model):
    ask = dict(model=model, prompt=PROMPT, max_tokens=24, seed=7, temperature=0.8)
    one = client.completions.create(**ask)
    check(f"{model}: a completion", one.object == "text_completion" and one.choices[0].finish_reason in ("stop", "length"))
    check(f"{model}: usage adds up", one.usage.total_tokens == one.usage.prompt_tokens + one.usage.completion_tokens)
    again = client.completions.create(**ask)
    check(f"{model}: same seed, same text", one.choices[0].text == again.choices[0].text)
    several = client.completions.create(**ask, n=3)
    texts = [choice.text for choice in several.choices]
    check(f"{model}: n texts, the first as alone", len(set(texts)) > 1 and texts[0] == one.choices[0].text, texts)
    prompts = client.completions.create(**{**ask, "prompt": [PROMPT, "Who"]})
    check(f"{model}: a list of prompts", [c.index for c in prompts.choices] == [0, 1])
    best = client.completions.create(**ask, n=1, best_of=4)
    check(f"{model}: best_of", len(best.choices) == 1 and best.usage.completion_tokens >= one.usage.completion_tokens)
    stop = one.choices[0].text[3:6]
    if stop.strip():
        stopped = client.completions.create(**ask, stop=[stop])
        check(f"{model}: stop", stop not in stopped.choices[0].text and stopped.choices[0].finish_reason == "stop")
    parts = [part for part in client.completions.create(**ask, stream=True, stream_options={"include_usage": True})]
    text = "".join(part.choices[0].text for part in parts if part.choices)
    check(f"{model}: a stream is the same text", text == one.choices[0].text, [text, one.choices[0].text])
    check(f"{model}: a stream ends with the usage", parts[-1].usage == one.usage)
    extended = client.completions.create(**ask, extra_body={"top_k": 1, "repetition_penalty": 1.1})
    check(f"{model}: fields beyond OpenAI's", extended.choices[0].text is not None)


def log_probs(client, model):
    ask = dict(model=model, prompt=PROMPT, seed=7, temperature=0)
    text = client.completions.create(**ask, max_tokens=12, logprobs=3)
    columns = text.choices[0].logprobs
    check(f"{model}: log-probabilities beside each token", len(columns.tokens) == len(columns.token_logprobs) > 0)
    greatest = [max(top.values()) for top in columns.top_logprobs]
    check(f"{model}: temperature 0 takes the likeliest",
          all(math.isclose(a, b) for a, b in zip(greatest, columns.token_logprobs)), columns)
    scored = client.completions.create(**ask, max_tokens=0, echo=True, logprobs=0).choices[0]
    check(f"{model}: echo scores the prompt", scored.text == PROMPT and "".join(scored.logprobs.tokens) == PROMPT)
    bias = {str(first_token(client, model)): -100}
    other = client.completions.create(**ask, max_tokens=1, logit_bias=bias, logprobs=0)
    check(f"{model}: logit_bias forbids", other.choices[0].logprobs.tokens != columns.tokens[:1])


def first_token(client, model):
    """The id of the likeliest token after the prompt, by Penwright's own route."""
    root = str(client.base_url).removesuffix("v1/")
    body = json.dumps({"model": model, "text": PROMPT, "top": 1}).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {client.api_key}"}
    with urllib.request.urlopen(urllib.request.Request(f"{root}api/next", body, headers)) as answer:
        return json.load(answer)["tokens"][0]["id"]


def chats(client, model):
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who is there?"}]
    ask = dict(model=model, messages=turns, max_completion_tokens=24, seed=3)
    one = client.chat.completions.create(**ask, logprobs=True, top_logprobs=2)
    message = one.choices[0].message
    check(f"{model}: a chat", message.role == "assistant" and isinstance(message.content, str))
    tokens = one.choices[0].logprobs.content
    check(f"{model}: a chat's log-probabilities", all(len(token.top_logprobs) == 2 for token in tokens))
    parts = list(client.chat.completions.create(**ask, stream=True))
    text = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
    check(f"{model}: a chat's stream is the same text", text == message.content, [text, message.content])
    longer = turns + [{"role": "assistant", "content": message.content or "."}, {"role": "user", "content": "And?"}]
    check(f"{model}: a chat goes on", client.chat.completions.create(**{**ask, "messages": longer}).choices)


def models(client):
    names = [model.id for model in client.models.list()]
    check("models are listed", names)
    check("a model is told of", client.models.retrieve(names[0]).id == names[0])
    return names


def raises(what, kind, call):
    try:
        call()
    except kind as error:
        print(f"ok  {what}: {error.__class__.__name__}, {error.message}")
        return error
    raise SystemExit(f"not so: {what} raised nothing")


def errors(client, model):
    create = client.completions.create
    raises("an unknown model", openai.NotFoundError, lambda: create(model="nobody", prompt="a"))
    error = raises("a wrong field", openai.BadRequestError, lambda: create(model=model, prompt="a", temperature=9))
    check("the error names the field", error.param == "temperature" and error.type == "invalid_request_error")
    raises("an unknown field", openai.BadRequestError, lambda: create(model=model, prompt="a", extra_body={"x": 1}))
    raises("tools", openai.BadRequestError, lambda: client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "a"}], tools=[{"type": "function", "function": {"name": "f"}}]))
    raises("a route that is not there", openai.NotFoundError, lambda: client.embeddings.create(model=model, input="a"))


def retries(client, model):
    """A busy server: two answers of 429 with Retry-After in front of the real one. The client comes back by itself."""
    root, seen = str(client.base_url).removesuffix("/v1/"), []

    class Busy(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            seen.append(self.path)
            if len(seen) < 3:
                answer = b'{"error":{"message":"busy","type":"rate_limit_error","param":null,"code":"queue_full"}}'
                self.send_response(429)
                self.send_header("Retry-After", "1")
            else:
                headers = {"Content-Type": "application/json", "Authorization": self.headers["Authorization"]}
                with urllib.request.urlopen(urllib.request.Request(root + self.path, body, headers)) as real:
                    answer = real.read()
                self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    busy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Busy)
    threading.Thread(target=busy.serve_forever, daemon=True).start()
    patient = openai.OpenAI(base_url=f"http://127.0.0.1:{busy.server_port}/v1", api_key=client.api_key, max_retries=3)
    answer = patient.completions.create(model=model, prompt=PROMPT, max_tokens=4)
    check("a client told to come back does, and is served", len(seen) == 3 and answer.choices)
    busy.shutdown()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:8080/v1")
    parser.add_argument("--key", default="none")
    args = parser.parse_args()
    client = openai.OpenAI(base_url=args.url, api_key=args.key, max_retries=0, timeout=120)
    print(f"openai {openai.__version__} at {args.url}")
    names = models(client)
    for name in names:
        completions(client, name)
        log_probs(client, name)
        chats(client, name)
    errors(client, names[0])
    retries(client, names[0])
    print(f"all of it holds for {', '.join(names)}")


if __name__ == "__main__":
    main()
