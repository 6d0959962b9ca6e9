"""The demo's bucket, for clients of Aliyun OSS and of Amazon S3."""

from django.urls import include, path

from resumable_uploads.protocols import multipart

# Below uploads/.
endpoints = {
    "sts": multipart.sts_urls(),
    "s3": [path("/", include(multipart.s3_urls()))],
}

# Clients of Aliyun OSS know of no prefix.
urlpatterns = multipart.oss_urls("demo-bucket")
