# Makes the signing key of docker-compose.yml, and tokens. Local use only.
FROM debian:trixie-slim
RUN apt-get update \
 && apt-get install --yes --no-install-recommends openssl \
 && rm -rf /var/lib/apt/lists/* \
 && install --directory --owner=nobody --mode=700 /key \
 && install --directory --owner=nobody --mode=755 /jwks
COPY tokens.sh /usr/local/bin/tokens
# The volumes take their owner from the folders above.
USER nobody
ENTRYPOINT ["tokens"]
CMD ["keys"]
