vcl 4.1;

# X-Forwarded-For and X-Varnish, its request id, are added without being asked for.
backend origin {
    .host = "@ORIGIN_HOST@";
    .port = "@ORIGIN_PORT@";
    .probe = {
        .url = "/healthz";
        .interval = 5s;
        .timeout = 2s;
    }
}

sub vcl_recv {
    if (req.url != "/cached") {
        return (pass);
    }
}
