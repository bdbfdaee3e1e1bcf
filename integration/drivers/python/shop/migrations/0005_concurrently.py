from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("shop", "0004_rewrite")]
    operations = [AddIndexConcurrently("order", models.Index(fields=["total"], name="shop_order_total"))]
