# A worker of Kafka Connect with Debezium for PostgreSQL and the Avro converter, both in the versions of
# local-stack/pom.xml.

FROM maven:3.9-eclipse-temurin-21 AS plugins
WORKDIR /build
COPY local-stack/pom.xml .
# -C: a wrong checksum fails the build.
RUN mvn --batch-mode -C -Pconverter dependency:copy-dependencies \
 && mvn --batch-mode -C -Parchives generate-resources

FROM apache/kafka:4.3.1
USER root
# For the health check.
RUN apk add --no-cache curl
COPY --from=plugins /build/target/plugins /opt/kafka-plugins
COPY docker/connect.properties /etc/kafka-connect/
USER appuser
EXPOSE 8083
CMD ["/opt/kafka/bin/connect-distributed.sh", "/etc/kafka-connect/connect.properties"]
