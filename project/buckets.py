"""The demo's bucket, for clients of Aliyun OSS and of Amazon S3."""

from django.urls import include, path

from resumable_uploads.protocols import multipart

urlpatterns = [
    path("uploads/sts", include(multipart.sts_urls())),
    path("uploads/s3/", include(multipart.s3_urls())),
    # Clients of Aliyun OSS know of no prefix.
    path("", include(multipart.oss_urls("demo-bucket"))),
]
